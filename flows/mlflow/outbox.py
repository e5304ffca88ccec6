"""Records for a server that may go away: delivered in order, kept while it is gone, counted where it never takes them.

A call that fails in a way that a retry can fix (storage/retryable.py) stays first in line, and nobody is asked for a
while that doubles; so a run goes on while its tracking server restarts. What the server refuses is dropped and
reported. Memory is bounded: at most MAX_WAITING records wait, and what comes after them is dropped.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from storage.addresses import redacted
from storage.retryable import http_status, is_transient

MAX_WAITING = 1000  # records; the largest are 1,000 values of a chart, some 400 kB
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 5.0, 120.0
TRIES = 3  # of a record to which the server answers that it is in trouble: it may be the record's own fault

Action = Callable[[], Any]


class Outbox:
    """Records for a server, in order."""

    def __init__(self, silence: str | None = None, ask: Callable[[], str | None] = lambda: None) -> None:
        """`silence` says why nobody has answered so far; `ask` checks again, at less cost than a client does."""
        self.refused: list[str] = []  # what was dropped, and why
        self._waiting: deque[Action] = deque()
        self._silence = silence or ""  # shown in place of the client's own errors until somebody answers
        self._ask = ask
        self._last_error = ""
        self._pause = PAUSE_SECONDS
        self._quiet_until = time.monotonic() + self._pause if silence else 0.0
        self._tries = 0  # of the first in line

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def failures(self) -> list[str]:
        """One line for each record that was not delivered."""
        return [*self.refused, *[self._silence or self._last_error] * len(self._waiting)]

    def send(self, action: Action) -> Any:
        """Deliver a record after those that wait; its result, or None where it has to wait or was refused."""
        if len(self._waiting) >= MAX_WAITING:
            self.refused.append(f"{self._silence or self._last_error} (more than {MAX_WAITING:,} records were waiting)")
            return None
        self._waiting.append(action)
        return self.deliver()

    def deliver(self, *, now: bool = False) -> Any:
        """Deliver what waits, unless a pause is on (`now`: even so); the result of the last, None where it waits."""
        result = None
        while self._waiting and (now or time.monotonic() >= self._quiet_until):
            if self._silence and (silence := self._ask()):
                self._silence = silence
                self._be_quiet()
                break
            try:
                result = self._waiting[0]()
                self._pause, self._silence = PAUSE_SECONDS, ""
            except Exception as error:
                result = None
                if self._keep(error):
                    break
            self._waiting.popleft()
            self._tries = 0
        return result if not self._waiting else None

    def _keep(self, error: Exception) -> bool:
        """Whether the first in line stays there, for a while in which nobody is asked."""
        self._last_error = redacted(f"{type(error).__name__}: {error}".splitlines()[0][:200])
        self._tries += http_status(error) is not None
        if not is_transient(error) or self._tries == TRIES:
            self.refused.append(self._last_error)
            return False
        self._silence = self._ask() or ""
        self._be_quiet()
        return True

    def _be_quiet(self) -> None:
        self._quiet_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
