"""Prefect's server as llmill starts it: asked again where its SQLite was busy, and forms checked in full.

What it can't do for itself. SQLite answers `database is locked` when a transaction that began by
reading meets another writer: the server rolls back and says 503, after which clients ask again and the UI does not.
And a form is checked against its JSON schema only, which knows nothing of a line `path=value`: what our forms ask for
is checked here, when Submit is pressed, by the code that will carry it out. And before it starts it takes up what a
server before it has heard (restart.py).
"""

import asyncio
import json
from datetime import timedelta

from deployments.asgi import Application, Message, Receive, Scope, Send, again, read_body
from flows.prefect.form import refusal_of_form
from flows.prefect.restart import resume_listening
from flows.prefect.servers import SILENCE_SECONDS
from storage.errors import LlmillError

VALIDATION = "/ui/schemas/validate"
BUSY = 503
WAITS = (0.1, 0.3, 1.0, 3.0)  # seconds before a request is handed in again
MAX_BODY_BYTES = 4 << 20  # of a request that is kept to be handed in again; larger ones go through once


def create_app() -> Application:
    """The application for uvicorn, with the settings of the environment."""
    from prefect.server.api.server import create_app

    return Patient(create_app())


class Patient:
    """An ASGI application around Prefect's that hands a request in again where SQLite was busy."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await resume_listening(timedelta(seconds=SILENCE_SECONDS))
        if scope["type"] != "http" or _length(scope) > MAX_BODY_BYTES:
            await self._application(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:  # the client has gone
            return
        checked = scope["path"].endswith(VALIDATION)
        for wait in (*WAITS, None):
            answer = _Answer(send, hold=checked)
            try:
                await self._application(dict(scope), again(body, receive), answer)
            except Exception:  # it has sent its 503 first
                if not answer.busy:
                    raise
            if not answer.busy:
                break
            if wait is None:
                await answer.release()
                return
            await asyncio.sleep(wait)
        if checked:
            await answer.release(_with_our_refusal(body, answer.body) if answer.status == 200 else None)


class _Answer:
    """What the application sends: handed on as it comes, except an answer that is held back."""

    def __init__(self, send: Send, *, hold: bool) -> None:
        self._send, self._hold = send, hold
        self._messages: list[Message] = []
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if self._hold or self.busy:
            self._messages.append(message)
        else:
            await self._send(message)

    @property
    def busy(self) -> bool:
        return self.status == BUSY

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self._messages)

    async def release(self, body: bytes | None = None) -> None:
        """Send what was held back, with another body where one is given."""
        if body is not None:
            start = self._messages[0]
            kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            start["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
            self._messages = [start, {"type": "http.response.body", "body": body}]
        for message in self._messages:
            await self._send(message)


def _with_our_refusal(request: bytes, answer: bytes) -> bytes:
    """Prefect's answer about a form, with our refusal beside the field."""
    try:
        asked, found = json.loads(request), json.loads(answer)
        refused = refusal_of_form(asked["schema"].get("properties", {}), asked["values"])
    except (ValueError, KeyError, TypeError, AttributeError, LlmillError):
        return answer  # not a form of ours: Prefect's answer is right
    if refused is None or not found.get("valid", False):
        return answer
    field, message = refused
    return json.dumps({"errors": [{"property": field, "errors": [message]}], "valid": False}).encode()


def _length(scope: Scope) -> int:
    """Bytes of a request's body as it says itself; too many where it does not say and may have one."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return MAX_BODY_BYTES + 1
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else MAX_BODY_BYTES + 1
