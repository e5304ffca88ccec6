"""What machines that train together say to each other, and what strangers say to them."""

import socket
from collections.abc import Iterator

import pytest

from tasks.train.wire import MOST_BYTES, Wire


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire, and the plain connection at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname()[:2])
        wire = Wire(server.accept()[0])
    yield wire, other
    wire.close()
    other.close()


def received(wire: Wire, other: socket.socket, count: int) -> list[dict]:
    """So many messages, once they have come."""
    found: list[dict] = []
    while len(found) < count and not wire.gone:
        found += wire.receive()
    return found


def test_messages_come_in_order_whole_and_at_once(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    assert wire.receive() == [] and not wire.gone
    answer = Wire(other)
    answer.send(host="Rechner Ü", number=1)
    answer.send(text="x" * 50_000)
    assert received(wire, other, 2) == [{"host": "Rechner Ü", "number": 1}, {"text": "x" * 50_000}]
    other.sendall(b'{"half": ')
    assert wire.receive() == []
    other.sendall(b"1}\n")
    assert received(wire, other, 1) == [{"half": 1}]


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"\xff\n", b"[" * 50_000 + b"\n", b"x" * 200_000]
)
def test_whoever_says_something_else_is_gone(ends: tuple[Wire, socket.socket], sent: bytes) -> None:
    wire, other = ends
    other.settimeout(0.2)
    try:
        other.sendall(sent)
    except TimeoutError:
        assert len(sent) > MOST_BYTES
    assert received(wire, other, 1) == [] and wire.gone


def test_one_that_has_left_is_gone_and_is_sent_nothing(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    other.sendall(b'{"last": 1}\n')
    other.close()
    assert received(wire, other, 1) == [{"last": 1}]
    assert received(wire, other, 1) == [] and wire.gone
    wire.send(more=1)
