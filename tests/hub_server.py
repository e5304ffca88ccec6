"""A Hugging Face hub on this machine: one data set, as `datasets` asks for it (HF_ENDPOINT), files and folders."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0" * 40


@contextmanager
def hub_server(dataset: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve a data set's files by path; yields the address and the paths that were asked for so far."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            if path == "/":
                return self.answer(b"")
            _, _, after = path.partition(f"/datasets/{dataset}/")
            kind, _, rest = after.partition("/")
            name = rest.partition("/")[2]  # behind the revision
            if kind == "revision":
                siblings = [{"rfilename": name} for name in files]
                return self.answer_json({"id": dataset, "sha": COMMIT, "siblings": siblings, "tags": []})
            if kind == "tree":
                return self.answer_json(entries(files, name))
            if kind == "resolve" and name in files:
                return self.answer(files[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{oid(files[name])}"'})
            self.answer(b"", {"X-Error-Code": "EntryNotFound"}, status=404)

        do_HEAD = do_GET

        def answer(self, body: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, value: Any) -> None:
            self.answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

        def log_message(self, *arguments: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def entries(files: Mapping[str, bytes], folder: str) -> list[dict[str, Any]]:
    """What lies in a folder, itself: files and folders."""
    prefix = f"{folder}/" if folder else ""
    inside = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    folders = sorted({name.partition("/")[0] for name in inside if "/" in name})
    return [
        *({"type": "directory", "oid": COMMIT, "size": 0, "path": prefix + name} for name in folders),
        *(
            {"type": "file", "oid": oid(data), "size": len(data), "path": name}
            for name, data in files.items()
            if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
        ),
    ]


def oid(data: bytes) -> str:
    """What the hub calls a file's contents."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
