"""A connection between the run and a machine that trains with it: messages of one line of JSON each.

A machine that is lost closes it too: the kernel asks after one that says nothing, and answers for a busy process.
"""

import json
import socket
from contextlib import suppress
from typing import Any

from storage.bystander import bystander

MOST_BYTES = 65_536  # of the messages that wait to be read
ASKED_AFTER_SECONDS, ASKED_TIMES = 2, 3  # a machine that answers none of these is gone: within 8 s
SEND_SECONDS = 5.0


@bystander
def watch_connection(connection: socket.socket) -> None:
    """Have the kernel close a connection, or those that a listening socket accepts, whose other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = {
        "TCP_KEEPIDLE": ASKED_AFTER_SECONDS,
        "TCP_KEEPINTVL": ASKED_AFTER_SECONDS,
        "TCP_KEEPCNT": ASKED_TIMES,
        "TCP_USER_TIMEOUT": 1000 * ASKED_AFTER_SECONDS * (1 + ASKED_TIMES),
    }
    for name, value in settings.items():
        if hasattr(socket, name):  # systems differ
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@bystander
class Wire:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._received = connection, b""
        self.gone = False
        watch_connection(connection)

    def send(self, **message: Any) -> None:
        """Send a message; to one that is gone nothing."""
        try:
            self._connection.settimeout(SEND_SECONDS)
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.gone = True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come meanwhile. Whoever sends something else is gone."""
        try:
            self._connection.setblocking(False)
            while not self.gone:
                data = self._connection.recv(MOST_BYTES)
                self._received += data
                self.gone = not data or len(self._received) > MOST_BYTES
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        whole, _, self._received = self._received.rpartition(b"\n")
        try:
            messages = [json.loads(line) for line in whole.splitlines()]
        except (ValueError, RecursionError):
            messages = [None]
        if not all(isinstance(message, dict) for message in messages):
            self.gone = True
            return []
        return messages

    def close(self) -> None:
        self.gone = True
        with suppress(OSError):
            self._connection.close()
