"""One answer while it is made: from the engine's thread into the server's loop, as text."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from deployments.server.engines.seam import EngineUnavailableError, Said, Written
from deployments.server.errors import ApiError, full, late, stopping, unavailable
from deployments.server.served import Served
from model.engine import Made, Request
from model.engine_thread import EngineFullError, EngineLateError, EngineStoppedError
from tasks.answer.stream import TextStream

GRACE_SECONDS = 5.0  # after which nobody waits for the engine's word that time is up: a step of it hangs


@dataclass(frozen=True, slots=True)
class Piece:
    """What may be shown further, what the engine made, and why the answer ends, where it does."""

    text: str
    made: Made | Written
    ending: str | None

    @property
    def tokens(self) -> int:
        """How many tokens were made for it."""
        return self.made.tokens if isinstance(self.made, Written) else int(self.made.token is not None)

    def said(self, decode: Callable[[int], str]) -> tuple[Said, ...]:
        """Its tokens with their log-probabilities; `decode` gives the text of a token."""
        made = self.made
        if isinstance(made, Written):
            return made.said
        if made.token is None:
            return ()
        likeliest = tuple((decode(token), value) for token, value in made.likeliest)
        return (Said(decode(made.token), made.log_probability, likeliest),)


class Answer(Protocol):
    """An answer while it is made, whoever makes it."""

    @property
    def request(self) -> Request:
        """What is answered."""
        ...

    @property
    def made(self) -> int:
        """Tokens that were made for it, read by the client or not."""
        ...

    def cancel(self) -> None:
        """Nobody reads it any more."""
        ...

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Its pieces, once."""
        ...


class Answering:
    """Iterate over it once for the pieces; `cancel` where nobody reads them any more.

    Raises EngineStoppedError where the model is served no more, before anything was made.
    """

    def __init__(self, served: Served, request: Request, stops: tuple[str, ...], seconds: float) -> None:
        self.request = request
        self._served, self._seconds = served, seconds
        self._loop, self._pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | BaseException]()
        self._text = TextStream(served.release.tokenizer, stops)
        self._over = False
        self.made = 0  # tokens, read by the client or not
        self._deadline = time.monotonic() + seconds + GRACE_SECONDS
        try:
            served.engine.submit(request, self._hear, seconds)
        except EngineFullError:
            raise full() from None

    def cancel(self) -> None:
        """Let go of the engine's row; nothing happens where the answer has ended."""
        if not self._over:
            self._over = True
            self._served.engine.cancel(self.request)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        try:
            while True:
                piece = await self._next()
                if isinstance(piece, BaseException):
                    self._over = True
                    raise _as_api_error(piece, self._seconds) from piece
                yield piece
                if piece.ending is not None:
                    self._over = True
                    return
        finally:
            self.cancel()

    async def _next(self) -> Piece | BaseException:
        if not self._pieces.empty():
            return self._pieces.get_nowait()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                return await self._pieces.get()
        except TimeoutError:
            self._served.engine.cancel(self.request)
            return EngineLateError()

    def _hear(self, made: Made | Written | BaseException) -> bool:
        """In the engine's thread: make text of a token, and say whether that was enough."""
        piece: Piece | BaseException = made if isinstance(made, BaseException) else self._piece(made)
        self.made += piece.tokens if isinstance(piece, Piece) else 0
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        return self._text.found

    def _piece(self, made: Made | Written) -> Piece:
        if isinstance(made, Written):
            text = self._text.add_text(made.text)
        else:
            text = self._text.add(made.token) if made.token is not None else ""
        ending: str | None = made.ending
        if ending is not None and not self._text.found:
            text += self._text.rest()
        return Piece(text, made, "stop" if self._text.found else ending)


def _as_api_error(error: BaseException, seconds: float) -> ApiError:
    if isinstance(error, EngineLateError):
        return late(seconds)
    if isinstance(error, EngineStoppedError):
        return stopping()
    if isinstance(error, EngineFullError):
        return full()
    if isinstance(error, EngineUnavailableError):
        return unavailable(str(error))
    return ApiError(500, f"the model failed ({type(error).__name__})", code="engine_error")
