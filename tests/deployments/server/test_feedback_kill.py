"""A server that is killed while people say something of its answers: what it has kept is whole, and nothing is lost."""

import http.client
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from load_server import LoadServer
from open_models import write_qwen
from support import wait_until

from deployments.server.served import Place
from storage.feedback import open_feedback

pytestmark = pytest.mark.slow
LONG = "A word for each that is said. " * 400  # that a write takes a while
PEOPLE, BEFORE = 6, 24


class Person(threading.Thread):
    """Asks, and corrects each answer, until the server is gone. `told`: what the server said it has kept."""

    def __init__(self, number: int, port: int) -> None:
        super().__init__(name=f"person {number}", daemon=True)
        self._number, self._port = number, port
        self.told: dict[int, str] = {}
        self.refused: list[Any] = []

    def run(self) -> None:
        said = 0
        try:
            while True:
                reply = self._post("/v1/completions", {"prompt": "The river", "max_tokens": 2})
                said += 1
                correction = f"{self._number} {said} {LONG}河 ก"
                body = {"id": reply["id"], "correction": correction, "consent": True, "user": str(self._number)}
                self.told[self._post("/v1/feedback", body)["id"]] = correction
        except (OSError, http.client.HTTPException, ValueError):  # killed, perhaps within an answer
            return

    def _post(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                self.refused.append((answer.status, text))
                raise ConnectionError
            return json.loads(text)
        finally:
            connection.close()


def test_what_was_said_to_be_kept_is_whole_after_a_kill(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "river", context_length=256)
    server, told = LoadServer(tmp_path), dict[int, str]()
    server.promote(Place(folder, "river", "d" * 64))
    for _ in range(2):  # and once more, on what the first left
        server.start()
        people = [Person(number, server.port) for number in range(PEOPLE)]
        for person in people:
            person.start()
        wait_until(lambda: sum(len(person.told) for person in people) >= BEFORE, "much was said")  # noqa: B023
        server.stop(signal.SIGKILL)
        for person in people:
            person.join(60)
            assert not person.is_alive() and person.refused == []
            told |= person.told
    kept = {record.id: record for record in open_feedback(tmp_path / "home").feedback()}
    assert {number: kept[number].correction for number in told} == told, "nothing is lost that was said to be kept"
    assert len(told) <= len(kept) <= len(told) + 2 * PEOPLE, "and nothing is there twice"
    for record in kept.values():
        number, said, rest = (record.correction or "").split(" ", 2)
        assert number.isdigit() and said.isdigit() and rest == f"{LONG}河 ก", "whole"
        assert record.messages[0].content == "The river" and record.answer_ids and record.model == "d" * 64
    assert len({record.user for record in kept.values()}) == PEOPLE, "the same people as before"
