"""Who asks, whether they may, and what it costs: keys, their limits, and the ledger.

Where no key was ever given out the server is open, and the ledger counts for nobody. A key that was given out or
revoked is known to every server of the database within LOOK_SECONDS. Requests a minute are counted by each server for
itself, tokens a day and money by the ledger, which all share.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.server.errors import ApiError
from deployments.server.pricing import Pricing
from storage.service import Entry, Key, Service

LOOK_SECONDS = 1.0
DAY = timedelta(days=1)


@dataclass
class _Bucket:
    """Requests that a key may send at once: `level` of them, filled up at `rate` a second."""

    level: float
    filled: float


class Accounts:
    """The keys and the ledger of one server. Its methods may wait for the database."""

    def __init__(self, service: Service, pricing: Pricing) -> None:
        self._service, self._pricing = service, pricing
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._known: dict[str, tuple[float, Key | None]] = {}  # secret -> when it was looked up, whose it is
        self._asks: tuple[float, bool] | None = None

    @property
    def asks(self) -> bool:
        """Whether a key is asked for: once one was given out, for good; the last one that is revoked opens nothing."""
        now = time.monotonic()
        if self._asks is None or not (self._asks[1] or now - self._asks[0] < LOOK_SECONDS):
            self._asks = (now, bool(self._service.keys()))
        return self._asks[1]

    def admit(self, authorization: str) -> Key | None:
        """The key of a request; None where none is asked for. ApiError for one that may not ask, now or at all."""
        if not self.asks:
            return None
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise ApiError(401, "a key is asked for: send it as `Authorization: Bearer KEY`", code="invalid_api_key")
        key = self._key_of(secret.strip())
        if key is None:
            raise ApiError(401, "this key is not known, or was revoked", code="invalid_api_key")
        self._check_rate(key)
        self._check_ledger(key)
        return key

    def charge(
        self, request: str, key: Key | None, model: str, usage: Mapping[str, Any], outcome: str, once: str | None = None
    ) -> None:
        """Write a request into the ledger, at its key's plan's prices."""
        prompt, made = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        plan = self._pricing.plans.get(key.plan) if key is not None else None
        price = plan.price(prompt, cached, made) if plan is not None else 0
        time_now = datetime.now(UTC).isoformat(timespec="microseconds")
        name = key.name if key is not None else ""
        self._service.write([Entry(request, name, model, time_now, prompt, cached, made, price, outcome, once)])

    def _key_of(self, secret: str) -> Key | None:
        now = time.monotonic()
        known = self._known.get(secret)
        if known is not None and now - known[0] < LOOK_SECONDS:
            return known[1]
        key = self._service.key_of(secret)
        with self._lock:
            self._known = {one: entry for one, entry in self._known.items() if now - entry[0] < LOOK_SECONDS}
            if key is not None:  # guesses are not kept: there is no end to them
                self._known[secret] = (now, key)
        return key

    def _check_rate(self, key: Key) -> None:
        most = key.limits.requests_per_minute
        if most is None:
            return
        with self._lock:
            now, rate = time.monotonic(), most / 60
            bucket = self._buckets.setdefault(key.name, _Bucket(most, now))
            bucket.level = min(most, bucket.level + (now - bucket.filled) * rate)
            bucket.filled = now
            if bucket.level < 1:
                wait = int((1 - bucket.level) / rate) + 1
                raise ApiError(429, f"more than {most} requests a minute", code="rate_limit_exceeded", retry_after=wait)
            bucket.level -= 1

    def _check_ledger(self, key: Key) -> None:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        most, budget = key.limits.tokens_per_day, key.limits.budget
        if most is not None and self._service.used(key.name, today.isoformat(timespec="microseconds"))[0] >= most:
            wait = int((today + DAY - datetime.now(UTC)).total_seconds()) + 1
            raise ApiError(
                429,
                f"the {most} tokens of this day are used (it ends at 00:00 UTC)",
                code="tokens_per_day",
                retry_after=wait,
            )
        if budget is not None and self._service.used(key.name)[1] >= budget:
            raise ApiError(429, "the budget of this key is used up", code="insufficient_quota")
