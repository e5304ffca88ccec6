"""Pages as WARC files (ISO 28500), in order of their addresses: equal pages give equal bytes.

What varies from crawl to crawl is left out: a record's date is that of the day its body was first received, its id a
digest of address and body, headers are those that say what the body is.
"""

import gzip
import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.fetch.page_store import StoredPage

FILE_BYTES = 64 * 2**20  # packed; a file ends with the page that reaches it
_HEADERS = ("content-type", "content-language", "last-modified", "etag", "link")


def write_archive(pages: Iterable[StoredPage], folder: Path, name: str) -> list[Path]:
    """Write pages to `NAME-00000.warc.gz` and so on; returns the files. Memory: one page."""
    files: list[Path] = []
    stream = None
    try:
        for page in pages:
            if stream is None or stream.tell() >= FILE_BYTES:
                if stream is not None:
                    stream.close()
                files.append(folder / f"{name}-{len(files):05d}.warc.gz")
                stream = files[-1].open("wb")
            stream.write(gzip.compress(_record(page), mtime=0))
    finally:
        if stream is not None:
            stream.close()
    return files


def _record(page: StoredPage) -> bytes:
    from fastwarc.warc import WarcRecord, WarcRecordType

    content = b"\r\n".join([*_http_head(page), b"", page.body])
    digest = hashlib.sha256(page.url.encode() + b"\0" + page.body).digest()
    record = WarcRecord()
    record.init_headers(WarcRecordType.response, record_urn=f"uuid:{uuid.UUID(bytes=digest[:16])}".encode())
    record.headers["WARC-Target-URI"] = page.url
    record.headers["WARC-Date"] = datetime.fromtimestamp(page.received, UTC).strftime("%Y-%m-%dT00:00:00Z")
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.set_bytes_content(content)
    out = io.BytesIO()
    record.write(out, checksum_data=True)
    return out.getvalue()


def _http_head(page: StoredPage) -> Iterator[bytes]:
    yield f"HTTP/1.1 {page.status} OK".encode()
    for name, value in page.headers:
        if name.lower() in _HEADERS:
            yield f"{name}: {value}".encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
    yield f"Content-Length: {len(page.body)}".encode()
