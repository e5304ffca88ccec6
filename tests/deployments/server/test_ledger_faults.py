"""A database that cannot be written: answers go on, and what was not written is written once it can be."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from model_server import Address, model_server
from sqlalchemy import event
from support import wait_until

from storage.service import Limits, Service

BODY: Any = {"prompt": "The river", "max_tokens": 3, "temperature": 0}


@contextmanager
def read_only(service: Service) -> Iterator[None]:
    """SQLite refuses each write, as it does to one who may not write the file."""
    engine = service._database._engine

    def refuse(connection: Any, *_: Any) -> None:
        connection.execute("pragma query_only=1")

    def allow(connection: Any, *_: Any) -> None:
        connection.execute("pragma query_only=0")

    event.listen(engine, "checkout", refuse)
    event.listen(engine, "checkin", allow)
    try:
        yield
    finally:
        event.remove(engine, "checkout", refuse)


@contextmanager
def full_disk(service: Service) -> Iterator[None]:
    """No file of this process may grow beyond what the smallest write to the database needs."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fault", [read_only, full_disk])
def test_an_answer_is_given_and_counted_once_there_is_room(
    folder: Path, tmp_path: Path, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(f"sqlite:///{tmp_path / 'service.db'}")
    key = service.add_key("ada", "standard", Limits())
    with model_server(folder, service) as server:
        assert ask(server, key)[0] == 200
        with fault(service):
            assert [ask(server, key)[0] for _ in range(2)] == [200, 200]
            wait_until(lambda: "cannot be written" in caplog.text, "it is said")
            assert service.usage("", "key")[0]["requests"] == 1
            assert server.ask("GET", "/readyz")[0] == 200
        assert ask(server, key)[0] == 200
        wait_until(lambda: service.usage("", "key")[0]["requests"] == 4, "nothing is lost")


def ask(server: Address, key: str) -> tuple[int, Any]:
    status, _, answer = server.ask("POST", "/v1/completions", BODY, {"authorization": f"Bearer {key}"})
    return status, answer
