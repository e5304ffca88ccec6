"""Around Prefect's server: a busy SQLite is asked again, a form of ours is checked, all else passes as it is."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flows.mlflow.guarded import guarded
from flows.prefect import server_app as prefect_app
from flows.prefect.form import BUILD_FIELDS
from flows.prefect.server_app import Patient

Message = dict[str, Any]


def ask(
    application: Any, path: str = "/api/x", body: bytes = b"{}", headers: dict[bytes, bytes] | None = None
) -> tuple[int, bytes, dict[bytes, bytes]]:
    """What an ASGI application answers to a POST, its body in two pieces; headers too."""
    sent: list[Message] = []
    pieces = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:], "more_body": False},
    ]

    async def receive() -> Message:
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    given = {b"content-length": str(len(body)).encode()} | (headers or {})
    scope = {"type": "http", "path": path, "headers": list(given.items())}
    asyncio.run(application(scope, receive, send))
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, sent
    return starts[0]["status"], b"".join(one.get("body", b"") for one in sent), dict(starts[0]["headers"])


def answering(
    *statuses: int, body: bytes = b"{}", raises: bool = False
) -> tuple[Callable[..., Awaitable[None]], list[bytes]]:
    """An application that answers with these statuses in turn, and what it was asked. Like Prefect's it raises the
    error after it has answered with 503."""
    asked: list[bytes] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        pieces = b""
        while True:
            message = await receive()
            pieces += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked.append(pieces)
        status = statuses[min(len(asked), len(statuses)) - 1]
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": body})
        if raises and status >= 500:
            raise RuntimeError("database is locked")

    return application, asked


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(prefect_app, "WAITS", (0.0, 0.0))


@pytest.mark.parametrize("raises", [False, True])
def test_a_busy_database_is_asked_again_with_the_same_request(raises: bool) -> None:
    application, asked = answering(503, 503, 201, raises=raises)
    assert ask(Patient(application), body=b'{"name": "x"}')[:2] == (201, b"{}")
    assert asked == [b'{"name": "x"}'] * 3


def test_one_that_stays_busy_is_said_and_other_errors_are_not_asked_again() -> None:
    application, asked = answering(503, raises=True)
    assert ask(Patient(application))[0] == 503 and len(asked) == 3
    application, asked = answering(409, 201)
    assert ask(Patient(application))[0] == 409 and len(asked) == 1
    application, asked = answering(500, raises=True)
    with pytest.raises(RuntimeError):
        ask(Patient(application))
    assert len(asked) == 1


def test_a_large_request_goes_through_once() -> None:
    application, asked = answering(503, 201)
    body = b"x" * (prefect_app.MAX_BODY_BYTES + 1)
    assert ask(Patient(application), body=body)[0] == 503 and asked == [body]


def test_a_form_of_ours_is_refused_beside_its_field_and_others_are_let_through() -> None:
    application, _ = answering(200, body=b'{"errors": [], "valid": true}')
    path = "/api/ui/schemas/validate"

    def validated(fields: tuple[str, ...], values: dict[str, Any]) -> Any:
        body = json.dumps({"schema": {"properties": {name: {} for name in fields}}, "values": values}).encode()
        status, answer, headers = ask(Patient(application), path, body)
        assert status == 200 and (headers[b"content-length"] == str(len(answer)).encode() or b"true" in answer)
        return json.loads(answer)

    wrong = validated(BUILD_FIELDS, {"recipe": "smoke", "settings": "filter.min_wrds=3"})
    assert not wrong["valid"] and wrong["errors"][0]["property"] == "settings"
    assert "did you mean 'min_words'?" in wrong["errors"][0]["errors"][0]
    assert validated(BUILD_FIELDS, {"recipe": "smoke"})["valid"]
    assert validated(("recipe", "settings"), {"recipe": 3, "settings": "filter.min_wrds=3"})["valid"]
    assert ask(Patient(application), path, b"no JSON")[1] == b'{"errors": [], "valid": true}'


def test_what_prefect_itself_refuses_stays_refused() -> None:
    answer = b'{"errors": [{"property": "tokens", "errors": ["too few"]}], "valid": false}'
    application, _ = answering(200, body=answer)
    body = {"schema": {"properties": {name: {} for name in BUILD_FIELDS}}, "values": {"recipe": "smok"}}
    assert ask(Patient(application), "/api/ui/schemas/validate", json.dumps(body).encode())[1] == answer


def test_a_guarded_ui_wants_the_password_except_for_its_health() -> None:
    application, asked = answering(200)
    locked = guarded(application, "ada:a secret")
    status, _, headers = ask(locked)
    assert status == 401 and headers[b"www-authenticate"].startswith(b"Basic") and asked == []
    assert ask(locked, headers={b"authorization": b"Basic YWRhOmEgc2VjcmV0Cg=="})[0] == 401
    assert ask(locked, headers={b"authorization": b"Basic YWRhOmEgc2VjcmV0"})[0] == 200
    assert ask(locked, "/health")[0] == 200
