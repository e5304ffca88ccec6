"""Another champion is served as soon as there is one, without a request that fails.

It is loaded and answers its golden prompts beside the one of before; then new requests go to it, while the one of
before ends what it has begun. A model that says something else than its release did is refused for good. One that
cannot be loaded (no memory, a file that is away, a disk that fails) is tried again, after twice as long each time. An
engine at an address changes its model when it likes: it is asked at each look whether it says what the champion says.

Adapters belong to the weights that they stand beside: with them, a champion of other weights is refused for good.
"""

import logging
import math
import threading
import time
from collections.abc import Callable

from deployments.server.app import Server
from deployments.server.engines.choose import AUTO, is_address
from deployments.server.golden import GoldenError
from deployments.server.served import Place, serve_model
from model.shape import WEIGHTS
from storage.canonical import digest_file
from storage.errors import DataError

LONGEST_WAIT = 64  # times the first one
_log = logging.getLogger("llmill.server")


class OtherWeightsError(DataError):
    """A champion that the adapters do not belong to."""


class Follower:
    """Looks again and again which model is to be served, in a thread of its own, until `stop`."""

    def __init__(self, server: Server, look: Callable[[], Place | None], engine: str = AUTO) -> None:
        self._server, self._look, self._engine, self._elsewhere = server, look, engine, is_address(engine)
        self._over = threading.Event()
        self._refused: str | None = None  # the digest of the last one that was
        self._again = math.inf  # when it is tried again
        self._wait = 0.0  # seconds until then, when it was refused
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(self._server.settings.look_seconds):
            try:
                place = self._look()
            except Exception as error:  # the store may be away for a while: what is served goes on
                _log.warning(f"cannot look for another champion: {error}")
                continue
            if place is None or place.digest == self._server.served.digest:
                continue
            if place.digest != self._refused or time.monotonic() >= self._again:
                self._change(place)

    def _change(self, place: Place) -> None:
        beside, settings = self._server.beside, self._server.settings
        known = beside is not None and beside.digest == place.digest
        ready = known and not self._elsewhere and not place.adapters
        try:
            self._check_adapters(place)
            served = beside if ready and beside else serve_model(place, settings, self._engine)
        except Exception as error:
            self._refuse(place, error)
            return
        before = self._server.swap(served)
        _log.warning(f"serves {served.name} ({served.digest[:8]}) from now on, instead of {before.name}")
        for one in (before, beside if known else None):
            if one is not None and one is not served:
                one.engine.stop(settings.request_seconds)

    def _check_adapters(self, place: Place) -> None:
        adapters = self._server.served.adapters
        if adapters is not None and digest_file(place.folder / WEIGHTS) != adapters.base_digest:
            raise OtherWeightsError(
                f"its weights are others than those that the adapters ({', '.join(adapters.names)}) stand beside: "
                "start the server again with adapters of this champion, or without"
            )

    def _refuse(self, place: Place, error: Exception) -> None:
        settings, again = self._server.settings, place.digest == self._refused
        for_good = isinstance(error, GoldenError | OtherWeightsError) and not self._elsewhere
        if self._elsewhere:  # asked again at the next look
            self._wait, self._again = settings.look_seconds, 0.0
        else:
            self._wait = min(2 * self._wait, LONGEST_WAIT * settings.retry_seconds) if again else settings.retry_seconds
            self._again = math.inf if for_good else time.monotonic() + self._wait
        self._refused = place.digest
        if not again:
            self._server.metrics.refused.inc()
        elif self._elsewhere:  # as at the look before
            return
        then = "" if for_good else f"; it is tried again in {self._wait:g} s"
        _log.warning(
            f"REFUSED the new champion {place.name} ({place.digest[:8]}): {error or type(error).__name__}. "
            f"{self._server.served.name} stays{then}"
        )
