"""What the server asks of an engine, whoever it is: keys, limits, metering and swaps stand before it and know no more.

Our own engine says the id of each token (`Made`). Others say text (`Written`): llama.cpp's stream holds back the ids of
a character of several tokens, and OpenAI's API has none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from model.engine import Made, Request
from model.sampling import Ending


@dataclass(frozen=True, slots=True)
class Said:
    """A token as text, its log-probability, and the likeliest in its place with theirs, the highest first."""

    text: str
    log_probability: float
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A further piece of an answer's text, its end, or both.

    `tokens` stand behind it: one a piece while the answer is made; the last piece has what is missing to the number
    that the engine says. `said` is empty where no log-probabilities were asked for.
    """

    request: Request
    text: str
    ending: Ending | None
    tokens: int
    said: tuple[Said, ...] = ()


class EngineUnavailableError(Exception):
    """The engine could not be asked, or broke off; the message is fit for a client."""


class AnswerEngine(Protocol):
    """Takes requests from any thread; what is made of one goes to its sink, from a thread of the engine's.

    A sink that returns True wants no more. A request ends with an ending, or with an error: EngineLateError,
    EngineStoppedError, EngineFullError, EngineUnavailableError, or what made it fail.
    """

    @property
    def running(self) -> int:
        """Requests that are read or answered now."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait for it."""
        ...

    @property
    def fault(self) -> str | None:
        """Why no request should be sent to it now; None where all is well."""
        ...

    @property
    def stuck_seconds(self) -> float:
        """For how long it has said nothing though somebody waits."""
        ...

    def submit(self, request: Request, sink: "Sink", seconds: float) -> None:
        """Put a request in line, which must end within so many seconds. EngineFullError where the line is full,
        EngineStoppedError where none is taken any more."""
        ...

    def cancel(self, request: Request) -> None:
        """Nobody waits for this request any more; its sink is not called again for long."""
        ...

    def stop(self, seconds: float = 0.0) -> None:
        """Take no more requests, give those under way so many seconds to end, and end."""
        ...


Sink = Callable[[Made | Written | BaseException], bool | None]
