"""A hub on this machine for downloads: commits and branches of a data set or a model, ranges, faults on demand."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

STALL_AFTER = 2**20
LARGE = 1000  # bytes from which a file is in LFS: redirected to, and known by its SHA-256


@dataclass
class Hub:
    """What the hub holds and how it misbehaves; tests change it while it serves."""

    dataset: str
    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    card: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "dataset"  # or model
    url: str = ""
    asked: list[str] = field(default_factory=list)  # method, path and range of each request
    tokens: list[str] = field(default_factory=list)  # "path token" of each request
    statuses: list[int] = field(default_factory=list)  # of the next answers to requests for files
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next bodies end
    stalls: str = ""  # the path of a file that stands still after `STALL_AFTER` bytes, until `released`
    refuse: int = 0  # the status of everything
    ranges: bool = True
    released: threading.Event = field(default_factory=threading.Event)
    served: dict[str, bytes] = field(default_factory=dict)  # by path: instead of what is listed

    def files_asked(self) -> list[str]:
        return [one for one in self.asked if "/lfs/" in one or "/resolve/" in one]


def commit_id(number: int) -> str:
    return f"{number:040x}"


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on the loopback; its address is in `url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{path} {self.headers.get('Range', '')}".strip())
        self.hub.tokens.append(f"{path} {self.headers.get('Authorization', '')}".strip())
        if self.hub.refuse:
            return self.answer(b"", status=self.hub.refuse)
        api, files = f"/api/{self.hub.kind}s/{self.hub.dataset}/", f"/{self.hub.dataset}/resolve/"
        files = f"/datasets{files}" if self.hub.kind == "dataset" else files
        if path.startswith(api):
            return self.describe(path.removeprefix(api))
        if path.startswith(files):
            return self.resolve(path.removeprefix(files))
        if path.startswith("/lfs/"):
            return self.send_file(path.removeprefix("/lfs/"))
        self.answer(b"", {"X-Error-Code": "RepoNotFound"}, 404)

    do_HEAD = do_GET

    def describe(self, rest: str) -> None:
        kind, _, revision = rest.partition("/")
        commit = self.hub.branches.get(revision, revision)
        if commit not in self.hub.commits:
            return self.answer(b"", {"X-Error-Code": "RevisionNotFound"}, 404)
        files = self.hub.commits[commit]
        if kind == "tree":
            return self.answer_json([_entry(path, data) for path, data in files.items()])
        siblings = [{"rfilename": path} for path in files]
        self.answer_json(
            {"id": self.hub.dataset, "sha": commit, "siblings": siblings, "tags": [], "cardData": dict(self.hub.card)}
        )

    def resolve(self, rest: str) -> None:
        commit, _, path = rest.partition("/")
        if path not in self.hub.commits.get(commit, {}):
            return self.answer(b"", {"X-Error-Code": "EntryNotFound"}, 404)
        if len(self.hub.commits[commit][path]) >= LARGE:
            return self.answer(b"", {"Location": f"{self.hub.url}/lfs/{commit}/{path}"}, 302)
        self.send_file(rest)

    def send_file(self, rest: str) -> None:
        commit, _, path = rest.partition("/")
        if self.hub.statuses and (status := self.hub.statuses.pop(0)) != 200:
            return self.answer(b"", {"Retry-After": "0"}, status)
        data = self.hub.served.get(path, self.hub.commits[commit][path])
        version = f'"{hashlib.sha256(data).hexdigest()}"'
        start, headers = 0, {"ETag": version, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        if wanted and self.hub.ranges and self.headers.get("If-Range", version) == version:
            start = int(wanted)
            if start >= len(data):
                return self.answer(b"", {"Content-Range": f"bytes */{len(data)}"}, 416)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if path == self.hub.stalls:
            return self.stall(data, headers)
        self.answer(
            data[start:], headers, 206 if start else 200, self.hub.cut_after.pop(0) if self.hub.cut_after else None
        )

    def stall(self, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:STALL_AFTER])
        self.wfile.flush()
        self.hub.released.wait(60)
        self.close_connection = True

    def answer_json(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(
        self, body: bytes, headers: Mapping[str, str] | None = None, status: int = 200, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if len(data) >= LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
