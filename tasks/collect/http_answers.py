"""The HTTP answer in a record of a WARC file: status, type and decoded body, through FastWARC.

Chunked bodies are joined and gzip, deflate, brotli and zstd are unpacked, never to more than the limit. What a header
calls packed and is not, since some crawlers store bodies unpacked, is read as it is.
"""

import io
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.collect.records import too_long
from tasks.collect.unpack import looks_like

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SEEN_BYTES = 1024
_WARC_HEAD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"


class BadAnswer(Exception):
    """An answer that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type in lower case (empty where none is stated), charset as the server wrote it, and the body."""

    status: int
    media_type: str
    charset: str
    body: bytes


def parse_answer(block: bytes, limit: int, whole: bool = True) -> Answer:
    """The answer in a record's block; BadAnswer where there is none, or a body of more than `limit` bytes.

    `whole` is false for a block that was cut by the crawler or the caller: its body may end anywhere.
    """
    try:
        headers = _parsed(block, "none").http_headers
    except OSError as error:
        raise BadAnswer(f"no HTTP answer ({str(error)[:80]})") from error
    status = headers.status_code
    if status is None:
        raise BadAnswer("no HTTP answer: the status line is missing")
    media_type, charset = content_type(headers.get("Content-Type") or "")
    if status != 200:
        return Answer(status, media_type, charset, b"")
    try:
        body = _body(block, (headers.get("Content-Encoding") or "").strip().lower(), limit, whole)
    except OSError as error:
        body = _plain_body(block)
        if not _is_text(body):
            raise BadAnswer(f"its body is not encoded as the header says ({str(error)[:80]})") from error
    if len(body) > limit:
        raise BadAnswer(too_long(limit))
    return Answer(status, media_type, charset, body)


def content_type(value: str) -> tuple[str, str]:
    """The media type in lower case and the charset of a Content-Type header; empty where it does not say."""
    media_type, _, parameters = value.partition(";")
    found = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", parameters, re.IGNORECASE)
    return media_type.strip().lower(), found[1] if found else ""


def _parsed(block: bytes, decode: Literal["none", "transfer"]) -> "WarcRecord":
    from fastwarc.warc import WarcRecord

    record = WarcRecord.from_bytes(_WARC_HEAD % len(block) + block + b"\r\n\r\n")
    record.parse_http(auto_decode=decode, quirks_mode=True)
    return record


def _body(block: bytes, encoding: str, limit: int, whole: bool) -> bytes:
    """The body, decoded; OSError where that fails."""
    data: bytes = _parsed(block, "transfer").reader.read(limit + 1)
    if encoding in ("gzip", "x-gzip"):
        return _inflated(data, (31,), limit, whole)
    if encoding == "deflate":
        return _inflated(data, (15, -15), limit, whole)
    if encoding in ("br", "zstd"):
        from fastwarc.stream_io import BrotliReader, ZstdReader

        reader = {"br": BrotliReader, "zstd": ZstdReader}[encoding](io.BytesIO(data))
        unpacked: bytes = reader.read(limit + 1)
        return unpacked
    return data


def _inflated(data: bytes, windows: tuple[int, ...], limit: int, whole: bool) -> bytes:
    error: zlib.error | None = None
    for window in windows:
        stream = zlib.decompressobj(wbits=window)
        try:
            body = stream.decompress(data, limit + 1)
        except zlib.error as failed:
            error = failed
            continue
        if whole and not stream.eof and len(body) <= limit:
            raise OSError("it ends early")
        return body
    raise OSError(str(error))


def _plain_body(block: bytes) -> bytes:
    """The body as it stands behind the header."""
    found = re.search(rb"\r?\n\r?\n", block)
    return block[found.end() :] if found else b""


def _is_text(body: bytes) -> bool:
    start = body[:_SEEN_BYTES]
    return bool(start.strip()) and not looks_like(start) and _CONTROL.search(start) is None
