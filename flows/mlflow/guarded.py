"""MLflow's UI behind a name and a password, as `llmill ui --host` serves them (an application of `mlflow server`).

MLflow's own authentication keeps a database of users and permissions and needs more packages; the UI of one home has
one user. Prefect's server has such a lock of its own.
"""

import base64
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.prefect.servers import credentials
from storage.errors import ConfigError

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]
OPEN = "/health"


def create_app() -> Application:
    """MLflow's application behind the credentials of the environment; raises ConfigError without any."""
    from mlflow.server.fastapi_app import app

    expected = credentials()
    if expected is None:
        raise ConfigError("no password is set: start the UI with `llmill ui`")
    return guarded(app, expected)


def guarded(application: Application, expected: str) -> Application:
    """An ASGI application that asks for `NAME:PASSWORD` (HTTP basic authentication, RFC 7617), except for /health."""
    wanted = b"Basic " + base64.b64encode(expected.encode())

    async def guard(scope: Scope, receive: Any, send: Any) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or scope["path"] == OPEN or hmac.compare_digest(given, wanted):
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"www-authenticate", b'Basic realm="llmill", charset="UTF-8"'), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body"})

    return guard
