"""A small server on the loopback that speaks as much of OpenAI's API as rewriting needs.

It counts what it is asked, and knows which prompts it has answered.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Said = tuple[int, dict[str, Any] | bytes]
Say = Callable[[str], Said]


def reply(text: str, finish: str = "stop", tokens: int | None = 50, **message: Any) -> dict[str, Any]:
    """A reply of /v1/chat/completions."""
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return {"choices": [{"message": {"content": text, **message}, "finish_reason": finish}], **usage}


@dataclass
class Teacher:
    """What was asked: prompts in the order of their arrival, and the headers of the last request."""

    say: Say
    seconds: float
    port: int = 0
    paths: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, prompt: str, key: str) -> Said:
        with self._lock:
            self.asked.append(prompt)
            self.keys.add(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self.seconds)
        status, body = self.say(prompt)
        with self._lock:
            self._now -= 1
            if status == 200:
                self.answered.append(prompt)
        return status, body


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with 5 a busy machine leaves some of many callers waiting for minutes


@contextmanager
def teacher_server(say: Say, seconds: float = 0.0, headers: Mapping[str, str] = {}) -> Iterator[Teacher]:
    """A server that says what `say` makes of a prompt: status and body, after so many seconds, with these headers."""
    teacher = Teacher(say, seconds)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["model"] == "river"
            teacher.paths.add(self.path)
            status, said = teacher.answer(body["messages"][0]["content"], self.headers.get("Authorization", ""))
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "0")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    teacher.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
