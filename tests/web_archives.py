"""WARC files for tests: records as a crawler writes them, and the damage that befalls them."""

import base64
import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

HTML = "text/html; charset=utf-8"


def web_page(title: str, *paragraphs: str, more: str = "") -> str:
    """A page with a main text that extractors find."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f'<!doctype html><html lang="en"><head><title>{title}</title></head><body>{more}'
        f"<main><article><h1>{title}</h1>{body}</article></main></body></html>"
    )


def answer(
    body: str | bytes,
    status: str = "200 OK",
    media_type: str = HTML,
    headers: Iterable[str] = (),
    newline: str = "\r\n",
) -> bytes:
    """An HTTP answer, head and body."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {media_type}"] if media_type else []), *headers]
    return newline.join([*lines, "", ""]).encode("latin-1") + data


def record(
    block: bytes,
    url: str = "https://a.example/",
    kind: str = "response",
    headers: Iterable[str] = (),
    length: int | str | None = None,
    media_type: str = "application/http; msgtype=response",
) -> bytes:
    """A record; `length` where the header lies about it."""
    lines = [
        *("WARC/1.0", f"WARC-Type: {kind}", f"WARC-Target-URI: {url}", "WARC-Date: 2026-01-02T03:04:05Z"),
        *(f"Content-Type: {media_type}", *headers, f"Content-Length: {len(block) if length is None else length}"),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"


def digest(block: bytes, name: str = "sha1") -> str:
    """The header that names a block's digest."""
    return f"WARC-Block-Digest: {name}:{base64.b32encode(hashlib.new(name, block).digest()).decode()}"


def packed(records: Iterable[bytes]) -> bytes:
    """A .warc.gz: each record is a member of its own."""
    return b"".join(gzip.compress(one, mtime=0) for one in records)


def write_archive(path: Path, *records: bytes) -> dict[str, str]:
    """A WARC file, packed as its name says; returns the source of a recipe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(records) if path.suffix == ".gz" else b"".join(records))
    return {"path": str(path)}
