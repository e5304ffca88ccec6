"""Requests that are read before they are handed on, for applications around others (ASGI)."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLargeError(Exception):
    """A body of more bytes than it may have; it was read no further."""


async def read_body(receive: Receive, most: int | None = None, *, keep: bool = True) -> bytes | None:
    """The body of a request, or nothing of it without `keep`; None where the client has gone. BodyTooLargeError
    beyond `most` bytes."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        pieces += [piece] * keep
        size += len(piece)
        if most is not None and size > most:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return b"".join(pieces)


def again(body: bytes, receive: Receive) -> Receive:
    """A request whose body is known already; after it what comes on the wire, which is the end of the client."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
