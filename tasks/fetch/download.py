"""One file from an address, whole or not at all: resumed where it was cut off, checked by size and digest.

What has come lies in `PARTIAL` with the name that the server gave its version (ETag) beside it. After a kill, a cut
connection or a server that is busy, the rest alone is asked for (HTTP ranges), and only if it is of the same version.
A file whose digest is wrong is removed and fetched anew once: what was cut together wrongly would stay wrong. Private
addresses are refused at each look-up and redirect. Memory: a block.
"""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from storage.addresses import redacted
from storage.errors import DataError
from storage.retryable import is_transient
from tasks.fetch.public_only import opener
from tasks.fetch.retry_after import seconds_asked

FILE = "file"  # what the jobs that fetch leave
BLOCK_BYTES = 2**20
ATTEMPTS = 5  # without a byte between them
LONGEST_WAIT_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0  # of silence


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: its address, and what is known of it: its size in bytes (None: unknown) and SHA-256 (empty)."""

    url: str
    size: int | None = None
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # for this host alone: not sent where a redirect leads
    allow_private: bool = False
    max_bytes: int = 2**44


def download(
    wanted: Wanted, partial: Path, target: Path, wait: Callable[[float], None] = time.sleep, first_wait: float = 1.0
) -> str:
    """Fetch a file to `target`; returns its SHA-256. `partial` is where it grows, and survives what ends the process.

    Raises DataError for what no retry can fix, and what the network raised after `ATTEMPTS` in vain.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    failed, restarted = 0, False
    while True:
        before = _size(partial)
        try:
            _continue(wanted, partial)
            digest = _checked(wanted, partial)
        except _Damaged as damaged:
            if restarted:
                raise DataError(f"{redacted(wanted.url)}: {damaged}") from damaged
            restarted = True
            continue
        except (OSError, http.client.HTTPException) as error:
            failed = failed + 1 if _size(partial) <= before else 1
            if not is_transient(error):
                raise _refused(wanted, error) from error
            if failed >= ATTEMPTS:
                raise
            wait(min(_asked_to_wait(error) or first_wait * 2 ** (failed - 1), LONGEST_WAIT_SECONDS))
            continue
        partial.replace(target)
        _version_file(partial).unlink(missing_ok=True)
        return digest


class _Damaged(Exception):
    """What came is not what was to come; the message says how. It has been removed."""


class _Cut(ConnectionError):
    """The connection ended before the file did."""


def _continue(wanted: Wanted, partial: Path) -> None:
    """Fetch what is missing of the partial file."""
    have, version = _size(partial), _version(partial)
    if wanted.size is not None and have == wanted.size:
        return
    if have and (not version or (wanted.size is not None and have > wanted.size)):
        partial.unlink()
        have = 0
    request = urllib.request.Request(wanted.url, headers={"Accept-Encoding": "identity"})
    for name, value in wanted.headers.items():
        request.add_unredirected_header(name, value)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version)
    try:
        answer = opener(wanted.allow_private).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            partial.unlink()  # another version, shorter than what we have
            raise _Cut("the server has no such range") from None  # its status would say: never again
        raise
    with answer:
        goes_on = answer.status == HTTPStatus.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            partial.unlink(missing_ok=True)
            raise _Cut("the server sent another range than the one asked for")
        _write(wanted, answer, partial, have if goes_on else 0)


def _write(wanted: Wanted, answer: Any, partial: Path, have: int) -> None:
    """Append an answer's body to the first `have` bytes."""
    length = answer.headers.get("Content-Length", "")
    whole = have + int(length) if length.isdecimal() else None
    if whole is not None and wanted.size is not None and whole != wanted.size:
        partial.unlink(missing_ok=True)
        raise _Damaged(f"it has {whole:,} bytes, and {wanted.size:,} are stated")
    with partial.open("r+b" if have else "wb") as file:
        file.truncate(have)
        file.seek(have)
        _keep_version(partial, answer.headers.get("ETag", ""))
        while block := answer.read(BLOCK_BYTES):
            file.write(block)
            if file.tell() > wanted.max_bytes:
                raise DataError(f"{redacted(wanted.url)}: the file has more than {wanted.max_bytes:,} bytes")
        if whole is not None and file.tell() < whole:
            raise _Cut(f"the connection ended after {file.tell():,} of {whole:,} bytes")


def _checked(wanted: Wanted, partial: Path) -> str:
    """The digest of a file that has come whole."""
    size = _size(partial)
    if wanted.size is not None and size < wanted.size:
        raise _Cut(f"the connection ended after {size:,} of {wanted.size:,} bytes")
    with partial.open("rb") as file:
        digest = _digest(file)
    if wanted.sha256 and digest != wanted.sha256:
        partial.unlink()
        raise _Damaged(f"its SHA-256 is {digest}, and {wanted.sha256} is stated: the file was changed, or damaged")
    return digest


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _asked_to_wait(error: BaseException) -> float:
    """The seconds that a busy server asks for; 0 where it names none."""
    return seconds_asked(error.headers.get("Retry-After", "")) if isinstance(error, urllib.error.HTTPError) else 0.0


def _refused(wanted: Wanted, error: BaseException) -> DataError:
    where = redacted(wanted.url)
    status = getattr(error, "code", None)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DataError(f"{where}: the server refuses access (HTTP {status}). See whether it needs a login or token.")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return DataError(f"{where}: there is no such file (HTTP {status}). Correct the address.")
    reason = f"HTTP {status}" if status else str(getattr(error, "reason", error))
    return DataError(f"{where}: it could not be fetched ({reason})")


def _size(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except FileNotFoundError:
        return 0


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _version(partial: Path) -> str:
    """The version that a partial file is of; empty where the server named none that ranges can rely on."""
    try:
        version = str(json.loads(_version_file(partial).read_text()))
    except (OSError, ValueError):
        return ""
    return "" if version.startswith("W/") else version


def _keep_version(partial: Path, version: str) -> None:
    _version_file(partial).write_text(json.dumps(version))
