"""Retries and time limits of a stage: how often a failed attempt is repeated, after what waits, how long one may take.

Only an error that a retry can fix (storage/retryable.py) is retried, which the builder decides. Each wait is twice the
one before, give or take half, so that many runs that one outage has stopped do not come back at once. An attempt that
ran out of time is not repeated: the next one has the same work and the same time, and the limit was set to end it.
"""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

from pydantic import Field

from storage.errors import ConfigError, TimeLimitError
from tasks.engine.config import StageConfig

MAX_RETRIES = 20
MAX_MINUTES = 525_600.0  # a year
MAX_WAIT_SECONDS = 3600.0
JITTER = 0.5  # a wait is this share shorter or longer, at most
AGAIN_SECONDS = 30.0  # longer than any clean-up; then the end is said again, should somebody have swallowed it


class StageLimits(StageConfig):
    """The limits of one stage, in place of those for all stages."""

    retries: int | None = Field(
        None, ge=0, le=MAX_RETRIES, description="Retries after an error of network or database; empty: as for all."
    )
    timeout_minutes: float | None = Field(
        None, gt=0, le=MAX_MINUTES, description="Minutes that an attempt may take; empty: as for all stages."
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one stage, and the field that says how long it may take."""

    retries: int
    timeout_minutes: float | None
    timeout_field: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A failed attempt that will be repeated: the retry's number, of how many, after how long, and the error."""

    stage: str
    number: int
    of: int
    seconds: float
    error: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def draw_waits(retries: int, delay_seconds: float) -> list[float]:
    """Seconds to wait before each retry."""
    return [
        round(min(MAX_WAIT_SECONDS, delay_seconds * 2.0**number) * random.uniform(1 - JITTER, 1 + JITTER), 3)
        for number in range(retries)
    ]


class _TimeIsUp(BaseException):
    """Passes through `except Exception`, as a cancellation does."""


@contextmanager
def time_limit(minutes: float | None, message: str) -> Iterator[None]:
    """End the block with TimeLimitError when its time is up, wherever it is; the block's clean-up runs.

    By SIGALRM, which reaches Python code, sleeps, locks and reads, in the main thread only.
    """
    if minutes is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("a stage's timeout holds in the main thread only: call the stage there, or set no timeout")
    armed, rang = True, False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rang
        if armed:
            rang = True
            raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, minutes * 60.0, AGAIN_SECONDS)
        try:
            yield
        finally:
            armed = False
    except (_TimeIsUp, Exception) as error:
        if not rang:
            raise
        raise TimeLimitError(message) from error  # however the clean-up ended
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
