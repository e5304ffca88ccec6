"""Files by their addresses, and lists of them: what a crawl of others publishes, such as Common Crawl's.

A list (`warc.paths.gz`) has a path a line, relative to the `base` of the source. A file is known by its address: what
is there has been fetched, and is fetched again with `--force fetch` alone.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

from pydantic import Field

from storage.addresses import redacted
from storage.canonical import digest_of
from storage.errors import DataError
from tasks.engine.config import LOCATION, StageConfig
from tasks.engine.context import Summary
from tasks.fetch.config import DownloadSource
from tasks.fetch.download import FILE, Wanted, download

MAX_LIST_BYTES = 64 * 2**20  # Common Crawl's have 90,000 lines, 12 MB


class FileJob(StageConfig):
    """One file by its address."""

    url: str = Field(description="Address of the file.")
    allow_private: bool = Field(description="Whether it may be on this machine or in a private network.")
    partial: str = Field(json_schema_extra=LOCATION, description="Folder in which the file grows.")


def file_jobs(source: DownloadSource, partial: Path) -> dict[str, FileJob]:
    """Name -> what is to be fetched; asks for the lists. `partial` is a folder that survives a kill."""
    addresses = list(source.urls)
    for address in source.lists:
        addresses += _listed(source, address, partial)
    return {
        f"{number:05d}-{PurePosixPath(urlsplit(address).path).name}": FileJob(
            url=address, allow_private=source.allow_private, partial=str(partial)
        )
        for number, address in enumerate(addresses)
    }


def fetch_file(job: FileJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Fetch one file, going on with what is there of it."""
    digest = download(
        Wanted(job.url, allow_private=job.allow_private), Path(job.partial) / digest_of(job.url), out / FILE
    )
    return {"bytes": (out / FILE).stat().st_size, "sha256": digest}


def _listed(source: DownloadSource, address: str, partial: Path) -> Iterator[str]:
    """The first `max_files` addresses of a list."""
    path = partial / f"{digest_of(address)}.list"
    wanted = Wanted(address, allow_private=source.allow_private, max_bytes=MAX_LIST_BYTES)
    download(wanted, partial / digest_of(address), path)
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(address, data)
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{redacted(address)}: the list names no file. Give a list of paths or addresses, one a line.")
    for line in lines[: source.max_files]:
        found = urljoin(source.base, line)
        if urlsplit(found).scheme not in ("http", "https") or not urlsplit(found).path.strip("/"):
            raise DataError(
                f"{redacted(address)}: {line[:80]!r} is no path of a file. Give a list of paths or addresses."
            )
        yield found


def _unpacked(address: str, data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        lines = stream.decompress(data, MAX_LIST_BYTES)
    except zlib.error as error:
        raise DataError(f"{redacted(address)}: the list is damaged ({error})") from error
    if not stream.eof:
        raise DataError(f"{redacted(address)}: the list is cut, or has more than {MAX_LIST_BYTES:,} bytes")
    return lines
