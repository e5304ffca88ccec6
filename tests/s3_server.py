"""An S3 server on this machine for tests and benchmarks: moto, in a process of its own.

`python tests/s3_server.py FILE` serves until its parent is gone, and writes its address into FILE. moto looks whether
an object is there and writes it in two steps; a real server does that in one, so here writes take turns.
Requests are counted: `GET /-/counts` tells them, with the bytes that came and went; `PUT /-/fail/N` answers the next N
requests with 503, as a busy server does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import wait_until

READ_ONLY = [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}]
EVERYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]


@dataclass(frozen=True)
class S3Server:
    """A running server, seen from its tests."""

    address: str

    def environment(self, store: str, key: str = "testing", secret: str = "testing") -> dict[str, str]:
        """The settings of a process that uses a store of this server."""
        return {
            "LLMILL_STORE": store,
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "s3") -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.address,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )

    def bucket(self, name: str) -> str:
        """A new bucket; returns the URL of a store in it."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}/store"

    def keys(self, store: str) -> dict[str, int]:
        """Names below a store's URL, and bytes."""
        bucket, _, prefix = store.removeprefix("s3://").partition("/")
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {
            row["Key"].removeprefix(f"{prefix}/"): row["Size"] for page in pages for row in page.get("Contents", [])
        }

    def user(self, name: str, statements: list[dict[str, Any]]) -> tuple[str, str]:
        """A user with such rights; returns key and secret."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    @contextmanager
    def authenticating(self) -> Iterator[None]:
        """From here on keys, signatures and rights are checked."""
        self._ask("/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._ask("/moto-api/reset-auth", b"inf")

    def counts(self) -> dict[str, int]:
        """Requests by method, and bytes `received` and `sent` in their bodies, since the last call."""
        return json.loads(self._ask("/-/counts"))

    def fail(self, count: int) -> None:
        """Have the next requests answered with 503."""
        self._ask(f"/-/fail/{count}", b"")

    def _ask(self, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.address + path, data=data, headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request) as answer:
            return answer.read()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server that lives as long as the block."""
    address_file = folder / "s3-address"
    process = subprocess.Popen([sys.executable, __file__, str(address_file)], stderr=(folder / "s3-log").open("w"))
    try:
        wait_until(address_file.exists, f"the S3 server whose log is {folder}/s3-log listens", process)
        yield S3Server(address_file.read_text())
    finally:
        process.kill()
        process.wait()


class _Counting:
    """The WSGI application around moto's."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._counts: Counter[str] = Counter()
        self._failing = 0
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/-/counts":
            counts, self._counts = self._counts, Counter()
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(counts).encode()]
        if path.startswith("/-/fail/"):
            self._failing = int(path.rpartition("/")[2])
            start("200 OK", [])
            return [b""]
        self._counts[method] += 1
        if self._failing and not path.startswith("/moto-api"):
            self._failing -= 1
            start("503 Service Unavailable", [("Content-Type", "application/xml")])
            busy = b"<Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>"
            return [] if method == "HEAD" else [busy]
        self._counts["received"] += int(environ.get("CONTENT_LENGTH") or 0)
        if method in ("PUT", "POST"):
            with self._turn:
                body = list(self._application(environ, start))
        else:
            body = list(self._application(environ, start))
        self._counts["sent"] += sum(map(len, body))
        return body


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def _serve(address_file: Path) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay open, as a real server's do
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    server = make_server("127.0.0.1", 0, _Counting(DomainDispatcherApplication(create_backend_app)), threaded=True)
    temporary = address_file.with_suffix(".new")
    temporary.write_text(f"http://127.0.0.1:{server.port}")
    temporary.rename(address_file)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
