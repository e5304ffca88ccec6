"""A model server on the loopback in this process, and what it is asked by HTTP."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from open_models import VOCABULARY
from openai import OpenAI
from support import wait_until

from deployments.server.accounts import Accounts
from deployments.server.adapters import AdapterPlace
from deployments.server.app import Server, create_app
from deployments.server.pricing import read_pricing
from deployments.server.run import listening
from deployments.server.served import Place, serve_model
from deployments.server.settings import ServerSettings
from flows.prefect.servers import free_port
from storage.feedback import FeedbackStore
from storage.service import Service
from tasks.moderate.moderator import Moderator

NAME = "river"


@dataclass(frozen=True)
class Address:
    """A server that answers."""

    port: int
    app: FastAPI

    @property
    def server(self) -> Server:
        """What stands behind the routes."""
        server: Server = self.app.state.server
        return server

    def client(self, key: str = "none", retries: int = 0) -> OpenAI:
        """OpenAI's own client."""
        return OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=retries)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body (JSON where it is some) of an answer; a body of bytes is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
            kind = answer.headers.get_content_type()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, named, json.loads(text) if text and kind == "application/json" else text
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of the answer to a POST."""
        status, _, answer = self.ask("POST", path, body)
        return status, answer


@contextmanager
def model_server(
    folder: Path,
    service: Service | None = None,
    engine: str = "auto",
    *,
    beside: Place | None = None,
    moderator: Moderator | None = None,
    adapters: Sequence[AdapterPlace] = (),
    **limits: Any,
) -> Iterator[Address]:
    """Serve a model folder, perhaps another beside it, by this engine, with these limits, a judge, adapters, and the
    keys of a database, until the end of the block. Feedback goes to `feedback.db` beside the folder."""
    import uvicorn

    settings = ServerSettings(**limits)
    service = service or Service(f"sqlite:///{folder.parent / 'service.db'}")
    other = serve_model(beside, settings) if beside is not None else None
    accounts = Accounts(service, read_pricing())
    first = Place(folder, NAME, "d" * 64, lambda: moderator, adapters=tuple(adapters))
    app = create_app(serve_model(first, settings, engine), settings, accounts, feedback_store(folder), other)
    port = free_port()
    server = uvicorn.Server(listening(app, settings, "127.0.0.1", port))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server answers")
        yield Address(port, app)
    finally:
        server.should_exit = True
        thread.join()
        app.state.server.stop_engines()


def endless(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never ends by itself."""
    model = server.server.served.release.model
    plain = model.logits

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        scores = plain(hidden)
        scores[..., VOCABULARY:] = -1e9
        return scores

    monkeypatch.setattr(model, "logits", logits)


def feedback_store(folder: Path) -> FeedbackStore:
    """Where a server of this folder keeps what users say."""
    return FeedbackStore(f"sqlite:///{folder.parent / 'feedback.db'}")
