"""Serve a model, or two, until it is told to stop: requests under way end, new ones are sent elsewhere."""

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from deployments.server.accounts import Accounts
from deployments.server.app import Server, create_app
from deployments.server.connections import Connection
from deployments.server.engines.choose import AUTO
from deployments.server.follow import Follower
from deployments.server.served import Place, Served
from deployments.server.settings import ServerSettings
from storage.addresses import LOOPBACK
from storage.feedback import FeedbackStore

LOOK_SECONDS = 0.05
TOLD_SECONDS = 2.0  # in which the last errors go out


def serve(
    served: Served,
    settings: ServerSettings,
    accounts: Accounts,
    feedback: FeedbackStore,
    host: str,
    port: int,
    ready: Callable[[Served, Served | None], None],
    look: Callable[[], Place | None] | None = None,
    beside: Served | None = None,
    engine: str = AUTO,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then give those under way `stop_seconds`; a second signal ends all.

    `ready` is called once the port is open, with the models. `look` says which one is to be served now (follow.py), by
    the same `engine`; `beside` is one more, to be compared. A caller that keeps a model keeps its memory when it is
    served no more.
    """
    app = create_app(served, settings, accounts, feedback, beside)
    del served, beside
    if host in LOOPBACK:  # a page of somebody else's, whose name leads here, must not reach it
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]"])
    config = listening(app, settings, host, port)
    server: Server = app.state.server
    follower = Follower(server, look, engine) if look is not None else None
    _Uvicorn(config, server, ready).run()
    if follower is not None:
        follower.stop()
    server.stop_engines()


def listening(app: FastAPI, settings: ServerSettings, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves the application: with bounds for heads, connections and slow clients."""
    connection = partial(
        Connection,
        head_seconds=settings.body_seconds,
        send_seconds=settings.send_seconds,
        answer_seconds=settings.body_seconds + settings.request_seconds + settings.send_seconds,
    )
    return uvicorn.Config(
        app,
        host,
        port,
        http=connection,  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        access_log=False,  # what users ask is nobody's business
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=64 << 10,
        limit_concurrency=settings.max_connections,
        server_header=False,
    )


class _Uvicorn(uvicorn.Server):
    """Goes on listening, to say 503, until what is under way has ended."""

    def __init__(self, config: uvicorn.Config, server: Server, ready: Callable[[Served, Served | None], None]) -> None:
        super().__init__(config)
        self._state, self._ready = server, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready(self._state.served, self._state.beside)

    def handle_exit(self, signal_number: int, frame: Any) -> None:
        """The first signal drains, the second ends. Neither is raised again afterwards: it was obeyed."""
        if self._state.stopping:
            self.should_exit = self.force_exit = True
            return
        self._state.stopping = True
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._state.settings.stop_seconds
        while self._state.busy and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._state.stop_engines()  # whoever is answered still is told
        told = time.monotonic() + TOLD_SECONDS
        while self._state.busy and time.monotonic() < told:
            time.sleep(LOOK_SECONDS)
        self.should_exit = True
