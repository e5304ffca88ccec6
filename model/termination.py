"""SIGTERM: what is computed is dropped at once, and saved is what was there before."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from model.ranks import Ranks

Result = TypeVar("Result")
TERMINATED = 128 + signal.SIGTERM  # exit status
AGAIN_SECONDS = 1.0


class TerminatedError(BaseException):
    """SIGTERM came while nothing was changed that would have to be whole.

    No Exception: torch's compiler catches those, and goes on compiling for half a minute.
    """


class Termination:
    """Whether this process, or one that trains with it, is to end."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.asked, self._may_raise = False, False

    def listen(self) -> None:
        """From now on SIGTERM is heard."""
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._on_signal)

    def interruptible(self, work: Callable[[], Result]) -> Result:
        """What `work` gives, which changes no weight; TerminatedError on every rank if SIGTERM comes to one of them
        meanwhile, or has come before.

        It ends where it is, unless the model is sharded: then the ranks exchange parameters all the time, and none may
        leave alone.
        """
        found: list[Result] = []
        try:
            self._may_raise = not self._ranks.sharded
            if not self.asked or self._ranks.sharded:
                found.append(work())
        except TerminatedError:
            found.clear()
        finally:
            self._may_raise = False
            signal.setitimer(signal.ITIMER_REAL, 0)  # Python leaves no handler for the alarm when it exits
        if self._ranks.worst(self.asked or not found):
            raise TerminatedError
        return found[0]

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._may_raise:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)  # what is raised in a finalizer, Python drops
            raise TerminatedError
