"""A time after which what goes on in the main thread is interrupted, as Ctrl-C would."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from storage.errors import ConfigError

SIGNAL = signal.SIGUSR2  # the limits of stages have SIGALRM


class TimeIsUp(KeyboardInterrupt):
    """The time of a search is over: what is under way saves its state and ends."""


class Deadline:
    """Whether the time of a search is over."""

    def __init__(self) -> None:
        self.passed = threading.Event()


@contextmanager
def deadline(minutes: float | None) -> Iterator[Deadline]:
    """Raise TimeIsUp in the main thread when so many minutes have passed within the block; None: never."""
    made = Deadline()
    if minutes is None:
        yield made
        return
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("--minutes holds in the main thread only: start the search there, or set no time")

    def ring(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # else the end of a run is just written down
            raise TimeIsUp

    def expire() -> None:
        made.passed.set()
        os.kill(os.getpid(), SIGNAL)

    before = signal.signal(SIGNAL, ring)
    timer = threading.Timer(minutes * 60.0, expire)
    timer.daemon = True
    timer.start()
    try:
        yield made
    finally:
        timer.cancel()
        signal.signal(SIGNAL, signal.SIG_IGN if made.passed.is_set() else before or signal.SIG_DFL)
