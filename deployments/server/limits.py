"""Bodies of limited size: one that is larger is refused before it is read to its end."""

from starlette.responses import JSONResponse

from deployments.asgi import Application, BodyTooLargeError, Receive, Scope, Send, again, read_body
from deployments.server.errors import ApiError


class LimitedBody:
    """An ASGI application that hands on requests whose bodies have up to `most` bytes, and answers 413 to others."""

    def __init__(self, app: Application, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if said.isdigit() and int(said) > self._most:
                raise BodyTooLargeError
            body = await read_body(receive, self._most)
        except BodyTooLargeError:
            error = ApiError(413, f"the body has more than {self._most} bytes", code="body_too_large")
            await JSONResponse(error.body, error.status, {"connection": "close"})(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, again(body, receive), send)
