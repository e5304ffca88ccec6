"""Another champion is served as soon as there is one, without a request that fails.

It is loaded and says something beside the one of before; then new requests go to it, while the one of before ends what
it has begun. A model that cannot be loaded, or fails at its first words, is refused, and not tried again.
"""

import logging
import threading
from collections.abc import Callable

from deployments.server.app import Server
from deployments.server.served import Place, serve_model

_log = logging.getLogger("llmill.server")


class Follower:
    """Looks again and again which model is to be served, in a thread of its own, until `stop`."""

    def __init__(self, server: Server, look: Callable[[], Place | None]) -> None:
        self._server, self._look = server, look
        self._over = threading.Event()
        self._refused: str | None = None  # the digest of the last one that was
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
            if place is not None and place.digest not in (self._server.served.digest, self._refused):
                self._change(place)

    def _change(self, place: Place) -> None:
        beside = self._server.beside
        try:
            known = beside is not None and beside.digest == place.digest
            served = beside if known and beside else serve_model(place, self._server.settings)
        except Exception as error:
            self._refused = place.digest
            self._server.metrics.refused.inc()
            _log.warning(
                f"REFUSED the new champion {place.name} ({place.digest[:8]}): {error}. {self._server.served.name} stays"
            )
            return
        before = self._server.swap(served)
        _log.warning(f"serves {served.name} ({served.digest[:8]}) from now on, instead of {before.name}")
        before.engine.stop(self._server.settings.request_seconds)
