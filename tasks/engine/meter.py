"""How far something is, at what rate, and how long the rest takes: one meter for stages and for commands."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RATE_SECONDS = 30.0  # the rate is that of so long a time: a machine gets busy, and free again


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is. `rate` is units per second, `seconds_left` an estimate; None at the start."""

    done: float
    total: float
    unit: str
    rate: float | None
    seconds_left: float | None
    figures: Mapping[str, Any]


class Meter:
    """Reads rates from how much is done when; starts over where less is done than before."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()  # (time, done) of the last RATE_SECONDS

    def at(self, done: float, total: float, unit: str, **figures: Any) -> Progress:
        """How far it is now."""
        now = time.monotonic()
        if self._recent and done < self._recent[-1][1]:
            self._recent.clear()
        while len(self._recent) > 1 and now - self._recent[1][0] > RATE_SECONDS:
            self._recent.popleft()
        since, first = self._recent[0] if self._recent else (now, done)
        self._recent.append((now, done))
        rate = (done - first) / (now - since) if now > since and done > first else None
        return Progress(done, total, unit, rate, (total - done) / rate if rate else None, figures)
