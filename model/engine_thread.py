"""An engine in a thread of its own, which alone touches the weights: requests come from any thread.

What is made of a request goes to its `sink`, called in the engine's thread; a sink that returns True wants no more.
A request ends with an `Ending`, or with an error: it was cancelled, it took longer than it may, or the engine failed.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from model.engine import Engine, Made, Request

JOIN_SECONDS = 10.0  # for the last step to end
Sink = Callable[[Made | BaseException], bool | None]


class EngineFullError(Exception):
    """As many requests wait as may."""


class EngineLateError(Exception):
    """A request has taken longer than it may."""


class EngineStoppedError(Exception):
    """The engine ends, and with it what has not ended by itself."""


class EngineThread:
    """Serves an engine until `stop`; `most_waiting` requests may wait for a row."""

    def __init__(self, engine: Engine, most_waiting: int) -> None:
        self._engine, self._most_waiting = engine, most_waiting
        self._changed = threading.Condition()
        self._arrived: deque[Request] = deque()
        self._cancelled: deque[Request] = deque()
        self._sinks: dict[Request, tuple[Sink, float]] = {}  # with the time by which each must have ended
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = self._closing = False
        self._stepped = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that have no row yet."""
        return len(self._arrived) + self._engine.waiting

    @property
    def running(self) -> int:
        """Requests that are read or answered now."""
        return self._engine.running

    @property
    def stuck_seconds(self) -> float:
        """For how long a step has been under way that has not ended; 0 where nothing is to do."""
        return time.monotonic() - self._stepped if self._sinks else 0.0

    @property
    def fault(self) -> str | None:
        """Why it takes no requests; None where it does."""
        return None if self._thread.is_alive() and not self._stopping else "the engine has stopped"

    def submit(self, request: Request, sink: Sink, seconds: float) -> None:
        """Put a request in line; it must end within so many seconds, which a step that hangs cannot see to: who waits
        has an eye on the time too. EngineFullError where the line is full, EngineStoppedError where the engine takes
        none any more, or has died."""
        with self._changed:
            self._check_line(self.waiting)
            if not self._sinks:
                self._stepped = time.monotonic()
            self._sinks[request] = (sink, time.monotonic() + seconds)
            self._arrived.append(request)
            self._changed.notify()

    def cancel(self, request: Request) -> None:
        """Nobody waits for this request any more: it leaves before the next step."""
        with self._changed:
            self._cancelled.append(request)
            self._changed.notify()

    def call(self, action: Callable[[], Any]) -> "Future[Any]":
        """Have something done between two steps, where nothing else touches the weights; raises as `submit` does."""
        future: Future[Any] = Future()
        with self._changed:
            self._check_line(len(self._calls))
            self._calls.append((action, future))
            self._changed.notify()
        return future

    def stop(self, seconds: float = 0.0) -> None:
        """Take no more requests, give those under way so many seconds to end, and end the thread. One that hangs in a
        step is left behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        deadline = time.monotonic() + seconds
        while (self._sinks or self._calls) and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():  # a step that hangs
            self._tell_all()

    def _check_line(self, waiting: int) -> None:
        if self.fault is not None:
            raise EngineStoppedError
        if waiting >= self._most_waiting:
            raise EngineFullError

    def _serve(self) -> None:
        try:
            self._run()
        finally:
            self._tell_all()

    def _tell_all(self) -> None:
        """Whatever ended the thread, or holds it: nobody waits for what will never come."""
        with self._changed:
            self._stopping = True
            calls, sinks = list(self._calls), list(self._sinks.values())
            self._calls.clear()
            self._sinks.clear()
        for _, future in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineStoppedError())
        for sink, _ in sinks:
            with suppress(Exception):
                sink(EngineStoppedError())

    def _run(self) -> None:
        while self._take():
            try:
                made = self._engine.step() if self._sinks else []
            except Exception as error:  # nothing that was under way can be trusted; the next requests start anew
                for request in self._under_way():
                    self._end(request, error)
                continue
            finally:
                self._stepped = time.monotonic()
            for one in made:
                self._hand_over(one)
            for request, failure in self._engine.failed:
                self._end(request, failure)

    def _take(self) -> bool:
        """Wait until there is something to do, and bring the line up to date; False where it is over."""
        with self._changed:
            while not (self._sinks or self._calls or self._stopping):
                self._changed.wait()
            arrived, cancelled = list(self._arrived), list(self._cancelled)
            self._arrived.clear()
            self._cancelled.clear()
            calls = [self._calls.popleft()] if self._calls else []  # one between two steps: answers go on beside them
            if self._closing:
                calls += self._calls
                self._calls.clear()
        for action, future in calls:
            if future.set_running_or_notify_cancel():
                try:
                    if self._closing:
                        raise EngineStoppedError
                    future.set_result(action())
                except Exception as error:
                    future.set_exception(error)
        for request in arrived:
            try:
                self._engine.submit(request)
            except Exception as error:
                self._end(request, error)
        now = time.monotonic()
        for request in cancelled:
            self._forget(request)
        for request, deadline in self._under_way().items():
            if self._closing or deadline < now:
                self._end(request, EngineStoppedError() if self._closing else EngineLateError())
        return bool(self._sinks or self._calls) or not self._stopping

    def _under_way(self) -> dict[Request, float]:
        """All requests, and until when each may take."""
        with self._changed:  # others are put in line meanwhile
            return {request: deadline for request, (_, deadline) in self._sinks.items()}

    def _hand_over(self, made: Made) -> None:
        entry = self._sinks.get(made.request)
        if entry is None:
            return
        try:
            enough = entry[0](made)
        except Exception as error:  # whoever listens is at fault, and hears of it
            self._end(made.request, error)
            return
        if made.ending is not None:
            self._sinks.pop(made.request, None)
        elif enough:
            self._forget(made.request)

    def _end(self, request: Request, error: BaseException) -> None:
        entry = self._sinks.get(request)
        self._forget(request)
        if entry is not None:
            with suppress(Exception):  # whoever listened may be gone
                entry[0](error)

    def _forget(self, request: Request) -> None:
        self._engine.cancel(request)
        self._sinks.pop(request, None)
