"""Connections of clients. One that sends no request in time, or does not take what it is sent, is ended.

uvicorn waits for both without end: whoever opens connections and says nothing, or asks for streams and reads none of
them, would hold their memory, their answers and in the end every file descriptor of the process. h11 is asked for by
name, since it alone bounds the size of a request's head.
"""

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from deployments.asgi import Application, Message, Receive, Scope, Send


class Connection(H11Protocol):
    """One connection. Its requests' heads have `head_seconds` to arrive, each piece of an answer `send_seconds` to be
    taken, and each answer `answer_seconds` from the head on."""

    def __init__(
        self, *arguments: Any, head_seconds: float, send_seconds: float, answer_seconds: float, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._head_seconds, self._send_seconds, self._answer_seconds = head_seconds, send_seconds, answer_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = self._bounded(self.app)
        self._look(None)

    def _look(self, before: Any) -> None:
        """End the connection where no request has come since the last look, and none is answered."""
        if self.transport.is_closing():
            return
        if before is not None and self.cycle is before[0] and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()
            return
        self.loop.call_later(self._head_seconds, self._look, (self.cycle,))

    def _bounded(self, app: Application) -> Application:
        """The application, whose sends end the connection where the client does not take them: to what stands above it
        looks as if the client had gone."""

        async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
            deadline = time.monotonic() + self._answer_seconds

            async def send_in_time(message: Message) -> None:
                try:
                    async with asyncio.timeout(min(self._send_seconds, deadline - time.monotonic())):
                        await send(message)
                except TimeoutError:
                    self.transport.abort()

            await app(scope, receive, send_in_time)

        return bounded
