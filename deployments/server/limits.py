"""Bodies of limited size and time: one beyond is refused before it is read to its end."""

import asyncio
import hashlib
from contextlib import suppress

from starlette.responses import JSONResponse

from deployments.asgi import Application, BodyTooLargeError, Receive, Scope, Send, again, read_body
from deployments.server.errors import ApiError

ONCE = "idempotency-key"  # a header: the client's own name for a request, however often it sends it
MOST_NAME_BYTES = 256
DISCARD_TIMES, DISCARD_SECONDS = 16, 5.0  # how much of a body that is too large is taken, and how long


class LimitedBody:
    """An ASGI application that hands on requests whose bodies come in time and have up to `most` bytes.

    A name that the client has given to the request is in the scope as ONCE, as a digest of it and of the body: the same
    name with another body is another request.
    """

    def __init__(self, app: Application, most: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        said, name = headers.get(b"content-length", b"0"), headers.get(ONCE.encode(), b"")
        try:
            if len(name) > MOST_NAME_BYTES:
                raise ApiError(400, f"{ONCE}: {len(name)} bytes; {MOST_NAME_BYTES} at most", code="invalid_value")
            if said.isdigit() and int(said) > self._most:
                raise BodyTooLargeError
            async with asyncio.timeout(self._seconds):
                body = await read_body(receive, self._most)
        except BodyTooLargeError:
            await self._discard(receive)
            error = ApiError(413, f"the body has more than {self._most} bytes", code="body_too_large")
        except TimeoutError:
            error = ApiError(408, f"the body did not come within {self._seconds:g} s", code="timeout")
        except ApiError as refused:
            error = refused
        else:
            if body is not None:
                scope[ONCE] = hashlib.sha256(name + b"\n" + body).hexdigest() if name else None
                await self._app(scope, again(body, receive), send)
            return
        await JSONResponse(error.body, error.status, {"connection": "close"})(scope, receive, send)

    async def _discard(self, receive: Receive) -> None:
        """Take what comes for a while: most clients read no answer before they have sent all."""
        with suppress(TimeoutError, BodyTooLargeError):
            async with asyncio.timeout(DISCARD_SECONDS):
                await read_body(receive, DISCARD_TIMES * self._most, keep=False)
