"""A web site on the loopback that notes what it is asked: `from sites import Site, page`."""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Answer:
    """What an address answers."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})


def page(text: str, *links: str, title: str = "") -> Answer:
    """A page with a paragraph and links."""
    anchors = "".join(f'<a href="{link}">{link}</a> ' for link in links)
    head = f"<title>{title}</title>" if title else ""
    return Answer(f"<!doctype html><html><head>{head}</head><body><p>{text}</p>{anchors}</body></html>".encode())


class Site:
    """Answers by path (with the query); whatever is not there is a 404. ETags are digests of the bodies."""

    def __init__(self, pages: Mapping[str, Answer | Handler]) -> None:
        self.pages: dict[str, Answer | Handler] = dict(pages)
        self.asked: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handling(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answer = site.pages.get(self.path, Answer(b"not found", 404))
                if callable(answer):
                    with contextlib.suppress(ConnectionError):
                        answer(self)
                    return
                tag = f'"{hash(answer.body)}"'
                if answer.status == 200 and self.headers.get("If-None-Match") == tag:
                    self.send_response(304)
                    self.end_headers()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status == 200:
                    self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handling)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        """What was asked, robots.txt left out."""
        return [path for path, _ in self.asked if path != "/robots.txt"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(pages: Mapping[str, Answer | Handler]) -> Iterator[Site]:
    """A site while the block runs."""
    site = Site(pages)
    try:
        yield site
    finally:
        site.close()


# Traps, as handlers: each for an address of its own.


def drips(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    _begin(request, {"Content-Type": "text/html"})
    for _ in range(600):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.1)


def endless(request: BaseHTTPRequestHandler) -> None:
    """A page that goes on and on."""
    _begin(request, {"Content-Type": "text/html"})
    for _ in range(100_000):
        request.wfile.write(b"<p>more</p>" * 1000)


def bomb(request: BaseHTTPRequestHandler) -> None:
    """20 KB that unpack to 20 MB."""
    body = gzip.compress(bytes(20 * 2**20), 9)
    _begin(request, {"Content-Type": "text/html", "Content-Encoding": "gzip", "Content-Length": str(len(body))})
    request.wfile.write(body)


def hangs_up(request: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
    request.connection.shutdown(socket.SHUT_RDWR)


def _begin(request: BaseHTTPRequestHandler, headers: Mapping[str, str]) -> None:
    request.send_response(200)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
