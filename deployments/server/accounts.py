"""Who asks, whether they may, and what it costs: keys, their limits, and the ledger.

Where no key was ever given out the server is open, and the ledger counts for nobody. A key that was given out or
revoked is known to every server of the database within LOOK_SECONDS. Requests a minute are counted by each server for
itself, tokens a day and money in the database, which all share.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from deployments.server.errors import ApiError
from deployments.server.pricing import Plan, Pricing
from storage.errors import StoreError
from storage.service import DAY_SECONDS, Entry, Key, Service, Standing, day_ago

LOOK_SECONDS = 1.0
THREADS = 16  # that may wait for the database at once; nothing else waits with them
MOST_REPEATS = 2  # of a request that a client has named: OpenAI's own sends one twice more
REMEMBERED = 10_000  # names of requests
_log = logging.getLogger("llmill.server")


@dataclass
class _Bucket:
    """Requests that a key may send at once: `level` of them, filled up at `rate` a second."""

    level: float
    filled: float


@dataclass
class _Open:
    """What a key has under way: answers, and the tokens and the price that they may come to."""

    answers: int = 0
    tokens: int = 0
    price: int = 0

    def add(self, answers: int, tokens: int, price: int) -> None:
        """Count a request that begins, or with negative numbers one that ends."""
        self.answers += answers
        self.tokens += tokens
        self.price += price


class Accounts:
    """The keys and the ledger of one server."""

    def __init__(self, service: Service, pricing: Pricing) -> None:
        self._service, self._pricing = service, pricing
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._known: dict[str, tuple[float, Key]] = {}  # secret -> when it was looked up, whose it is
        self._asks: tuple[float, bool] | None = None
        self._open: dict[str, _Open] = {}
        self._used: dict[str, tuple[float, int]] = {}  # tokens left and price in all, as the database last said
        self._repeats: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._unwritten: list[Entry] = []  # what the database did not take; it is offered again with the next
        self._threads = ThreadPoolExecutor(THREADS, "accounts")

    @property
    def asks(self) -> bool:
        """Whether a key is asked for: once one was given out, for good; the last one that is revoked opens nothing."""
        now = time.monotonic()
        if self._asks is None or not (self._asks[1] or now - self._asks[0] < LOOK_SECONDS):
            self._asks = (now, bool(self._service.keys()))
        return self._asks[1]

    async def admit(self, authorization: str) -> Key | None:
        """The key of a request; None where none is asked for. ApiError for one that may not ask, now or at all."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._admit, authorization)
        except StoreError as error:
            _log.error("keys cannot be looked up: %s", error)
            raise ApiError(
                503, "keys cannot be looked up now: ask again", code="accounts_away", retry_after=5
            ) from None

    @contextmanager
    def under_way(self, key: Key | None, answers: int, most_answers: int, prompt: int, made: int) -> Iterator[None]:
        """While a request of a key is carried out; ApiError where the key has too much under way."""
        if key is None:
            yield
            return
        plan = self._pricing.plans.get(key.plan)
        price = plan.price(prompt, 0, made) if plan is not None else 0
        with self._lock:
            going = self._open.setdefault(key.name, _Open())
            self._check_limits(key, going)
            if going.answers and going.answers + answers > most_answers:
                raise ApiError(
                    429,
                    f"this key has {going.answers} answers under way; {most_answers} at most",
                    code="rate_limit_exceeded",
                    retry_after=1,
                )
            going.add(answers, prompt + made, price)
        try:
            yield
        finally:
            with self._lock:
                going.add(-answers, -prompt - made, -price)

    async def hit(self, key: Key | None, categories: Sequence[str]) -> None:
        """Note that a prompt of a key was flagged, and stop the key where its plan says so."""
        if key is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await asyncio.shield(loop.run_in_executor(self._threads, self._hit, key, ",".join(categories)))
        except StoreError as error:
            _log.error("a flagged prompt of the key %s cannot be noted: %s", key.name, error)

    async def charge(
        self, request: str, key: Key | None, model: str, usage: Mapping[str, Any], outcome: str, once: str | None = None
    ) -> None:
        """Write a request into the ledger, at its key's plan's prices. What the database does not take is kept and
        offered again: an answer that was made is not lost by it."""
        entry = self._entry(request, key, model, usage, outcome, once)
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._threads, self._write, entry))

    def _admit(self, authorization: str) -> Key | None:
        if not self.asks:
            return None
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise ApiError(401, "a key is asked for: send it as `Authorization: Bearer KEY`", code="invalid_api_key")
        key = self._key_of(secret.strip())
        if key is None:
            raise ApiError(401, "this key is not known, or was revoked", code="invalid_api_key")
        self._check_rate(key, self._slowed(key))
        self._check_ledger(key)
        return key

    def _hit(self, key: Key, categories: str) -> None:
        self._service.note(key.name, "hit", categories)
        most, standing = self._plan(key).stopped_after_hits, self._standing(key)
        if most is not None and standing.hits >= most and not standing.stopped:
            self._service.note(key.name, "stopped")
            _log.warning("STOPPED the key %s after %d flagged prompts", key.name, standing.hits)

    def _slowed(self, key: Key) -> int | None:
        """The requests a minute of a key that is slowed, else None; ApiError for one that is stopped."""
        plan, standing = self._plan(key), self._standing(key)
        if standing.stopped:
            raise ApiError(
                403,
                "this key is stopped: too many of its prompts were flagged. Ask who gave it out",
                code="key_stopped",
            )
        slowed = plan.slowed_after_hits is not None and standing.hits >= plan.slowed_after_hits
        return plan.slowed_requests_per_minute if slowed else None

    def _standing(self, key: Key) -> Standing:
        return self._service.standings(day_ago(), key.name).get(key.name, Standing())

    def _plan(self, key: Key) -> Plan:
        """Its plan; one that is gone from the file has no price, and moderates as others do by default."""
        return self._pricing.plans.get(key.plan) or Plan(prompt=Decimal(0), cached=Decimal(0), made=Decimal(0))

    def _entry(
        self, request: str, key: Key | None, model: str, usage: Mapping[str, Any], outcome: str, once: str | None
    ) -> Entry:
        prompt, made = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        name, plan = (key.name, self._pricing.plans.get(key.plan)) if key is not None else ("", None)
        price = plan.price(prompt, cached, made) if plan is not None else 0
        if once is not None:
            with self._lock:
                repeats = self._repeats.get((name, once), -1) + 1
                self._repeats[name, once] = repeats
                while len(self._repeats) > REMEMBERED:
                    self._repeats.popitem(last=False)
            if repeats > MOST_REPEATS:  # not sent again for want of an answer: it is another request
                once = None
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return Entry(request, name, model, now, prompt, cached, made, price, outcome, once)

    def _write(self, entry: Entry) -> None:
        with self._lock:
            entries, self._unwritten = [*self._unwritten, entry], []
        for place, one in enumerate(entries):
            try:
                self._service.write(one)
            except StoreError as error:
                _log.error("the ledger cannot be written, %d requests wait: %s", len(entries) - place, error)
                with self._lock:
                    self._unwritten = entries[place:] + self._unwritten
                return

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

    def _check_rate(self, key: Key, slowed: int | None) -> None:
        most = key.limits.requests_per_minute
        if slowed is not None:
            most = slowed if most is None else min(most, slowed)
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
        limits = key.limits
        left = self._service.left(key.name, limits.tokens_per_day) if limits.tokens_per_day is not None else 0.0
        price = self._service.spent(key.name) if limits.budget is not None else 0
        with self._lock:
            self._used[key.name] = (left, price)
            self._check_limits(key, self._open.get(key.name, _Open()))

    def _check_limits(self, key: Key, going: _Open) -> None:
        """What is under way counts as if it were used: requests side by side pass no limit that one after another
        keep."""
        most, budget = key.limits.tokens_per_day, key.limits.budget
        left, price = self._used.get(key.name, (float(most or 0), 0))
        if most is not None and left - going.tokens < 1:
            raise ApiError(
                429,
                f"the {most} tokens of a day are used, or under way; they come back evenly, {most / 24:,.3g} an hour",
                code="tokens_per_day",
                retry_after=int((1 - left + going.tokens) * DAY_SECONDS / most) + 1,
            )
        if budget is not None and price + going.price >= budget:
            raise ApiError(429, "the budget of this key is used up, or under way", code="insufficient_quota")
