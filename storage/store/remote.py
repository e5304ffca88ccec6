"""A folder of objects behind an fsspec URL: what the shared store (shared.py) and its leases need of it.

Small objects are read and written whole; files are streamed, several at a time, in chunks (at most TRANSFERS x
CHUNKS_A_FILE x CHUNK_BYTES of memory). What may pass by itself (network, a busy server) is tried again with backoff
and jitter; anything else becomes a StoreError that names the store, never with credentials. fsspec and the package of
the protocol are imported when a Remote is made, so a home without a shared store never loads them.
"""

import errno
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from storage.addresses import redacted
from storage.errors import ConfigError, StoreError
from storage.retryable import is_transient
from storage.store.local import OnProgress, silent

VARIABLE = "LLMILL_STORE"
# Where a file can be created only if it is not there, in one step, as a lease needs it.
PROTOCOLS = ("s3", "s3a", "gs", "gcs", "file", "memory")
TRANSFERS = 8
CHUNKS_A_FILE = 4
CHUNK_BYTES = 8 << 20
ATTEMPTS = 5  # with the waits between them some 15 s
FIRST_WAIT_SECONDS = 1.0
LISTED_ABOVE = 32  # more objects than this are looked up by listing their folder

_CONNECTION = {"connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": _CONNECTION}, "file": {"auto_mkdir": True}}
_STREAMING = {"s3": {"chunksize": CHUNK_BYTES, "max_concurrency": CHUNKS_A_FILE}}

T = TypeVar("T")
U = TypeVar("U")


class Remote:
    """Objects by key below one URL. Methods are safe to call from several threads; all raise StoreError."""

    def __init__(self, url: str, attempts: int = ATTEMPTS) -> None:
        self.name = redacted(url).rstrip("/")
        self._protocol = _checked_protocol(url)
        self._attempts = attempts
        kind = {"s3a": "s3", "gcs": "gs"}.get(self._protocol, self._protocol)
        self._streaming = _STREAMING.get(kind, {})
        try:
            from fsspec.core import url_to_fs

            options = {"use_listings_cache": False, "skip_instance_cache": kind != "memory", **_OPTIONS.get(kind, {})}
            self._files, root = url_to_fs(url, **options)
        except ImportError as error:
            raise ConfigError(
                f"{VARIABLE}={self.name}: {error.name or error} is not installed. For S3: pip install 'llmill[s3]'"
            ) from None
        except Exception as error:  # a setting of the protocol that cannot be used
            raise ConfigError(f"{VARIABLE}={self.name}: {redacted(str(error))}") from error
        self._root = str(root).rstrip("/")
        self._pool = ThreadPoolExecutor(TRANSFERS, thread_name_prefix="transfer")

    def check(self) -> None:
        """Raise StoreError, within seconds, where the store does not answer, is not there or may not be read."""
        try:
            self._try(lambda: self._files.ls(self._root, detail=True), "be read", attempts=2)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise StoreError(f"{self.name}: the bucket does not exist. Create it, or correct {VARIABLE}") from error

    # Small objects ----------------------------------------------------------------------------------------------

    def read(self, key: str) -> bytes | None:
        """An object's bytes, or None where there is none."""
        try:
            return self._try(lambda: self._files.cat_file(self._path(key)), "be read")
        except FileNotFoundError:
            return None

    def read_all(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of the objects that are there."""
        return {key: data for key, data in zip(keys, self._map(self.read, keys), strict=True) if data is not None}

    def write(self, key: str, data: bytes) -> None:
        """Put an object there, in place of an earlier one."""
        if self._protocol != "file":
            self._try(lambda: self._files.pipe_file(self._path(key), data), "be written")
            return
        self._try(lambda: self._rename_into(key, lambda path: self._files.pipe_file(path, data)), "be written")

    def create(self, key: str, data: bytes) -> bool:
        """Put an object there unless there is one; returns whether it is now ours."""
        try:
            self._try(lambda: self._create(self._path(key), data), "be written")
        except FileExistsError:
            return self.read(key) == data  # the answer to an earlier attempt may have been lost
        return True

    def delete(self, key: str) -> None:
        """Delete an object if it is there."""
        with suppress(FileNotFoundError):
            self._try(lambda: self._files.rm_file(self._path(key)), "be changed")

    def names(self, folder: str) -> dict[str, int]:
        """Names and bytes of the objects in a folder."""
        try:
            rows = self._try(lambda: self._files.ls(self._path(folder), detail=True), "be read")
        except FileNotFoundError:
            return {}
        return {row["name"].rpartition("/")[2]: row["size"] for row in rows if row["type"] == "file"}

    def sizes(self, folder: str, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those objects of a folder that are there: asked one by one, or in one listing where many."""
        wanted = list(dict.fromkeys(names))
        if len(wanted) > LISTED_ABOVE:
            there = self.names(folder)
            return {name: there[name] for name in wanted if name in there}
        found = self._map(lambda name: self._size(f"{folder}/{name}"), wanted)
        return {name: size for name, size in zip(wanted, found, strict=True) if size is not None}

    # Files ------------------------------------------------------------------------------------------------------

    def upload(self, files: Mapping[str, Path], on_progress: OnProgress = silent) -> None:
        """Put files there by key, several at a time."""
        self._transfer([(key, path, path.stat().st_size) for key, path in files.items()], self._put, on_progress)

    def download(self, files: Sequence[tuple[str, Path, int]], on_progress: OnProgress = silent) -> None:
        """Write objects to paths, several at a time: (key, path, bytes). One that is gone leaves no file."""
        self._transfer(files, self._get, on_progress)

    def _put(self, key: str, path: Path) -> None:
        def put(target: str) -> None:
            self._files.put_file(str(path), target, **self._streaming)

        if self._protocol == "file":
            self._try(lambda: self._rename_into(key, put), "be written")
        else:
            self._try(lambda: put(self._path(key)), "be written")

    def _get(self, key: str, path: Path) -> None:
        try:
            self._try(lambda: self._files.get_file(self._path(key), str(path), **self._streaming), "be read")
        except FileNotFoundError:
            path.unlink(missing_ok=True)

    def _transfer(
        self, files: Sequence[tuple[str, Path, int]], action: Callable[[str, Path], None], on_progress: OnProgress
    ) -> None:
        total, done = sum(size for _, _, size in files), 0
        results = self._map(lambda row: action(row[0], row[1]), files)
        on_progress(0, total)
        for (_, _, size), _ in zip(files, results, strict=True):
            done += size
            on_progress(done, total)

    # How --------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _size(self, key: str) -> int | None:
        try:
            return self._try(lambda: int(self._files.info(self._path(key))["size"]), "be read")
        except FileNotFoundError:
            return None

    def _create(self, path: str, data: bytes) -> None:
        if self._protocol != "file":
            self._files.pipe_file(path, data, mode="create")
            return
        _make_folder(Path(path).parent)  # fsspec would check first and write then
        with Path(path).open("xb") as file:
            file.write(data)

    def _rename_into(self, key: str, write: Callable[[str], None]) -> None:
        """On a file system a reader must not see half a file; an object store shows objects whole."""
        target = Path(self._path(key))
        _make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            write(str(temporary))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _map(self, action: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
        """The results in order, several at a time; after the first error nothing more is begun."""
        if len(items) == 1:
            yield action(items[0])
            return
        futures = [self._pool.submit(action, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _try(self, action: Callable[[], T], what: str, attempts: int | None = None) -> T:
        """Call `action`, again where that may help. That something is there already, or is not there, are answers."""
        attempts = attempts or self._attempts
        for attempt in range(1, attempts + 1):
            try:
                return action()
            except (FileNotFoundError, FileExistsError) as error:
                if isinstance(error, FileNotFoundError) and what == "be written":
                    raise self._explained(error, what) from error
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # of this machine's disk
                if attempt == attempts or not is_transient(error):
                    raise self._explained(error, what) from error
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _explained(self, error: Exception, what: str) -> StoreError:
        """What went wrong and what to do, without credentials."""
        reason = redacted(str(error) or type(error).__name__).strip().rstrip(".")
        fix = f"What is under LLMILL_HOME is kept. Fix that, or unset {VARIABLE}, and run the same command again"
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
            fix = f"The credentials or permissions in force do not allow it. {fix}"
        elif type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            fix = f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE. {fix}"
        elif is_transient(error):
            fix = f"Is the address right (AWS_ENDPOINT_URL) and the server running? {fix}"
        code = _code(error)
        return StoreError(f"{self.name}: cannot {what} ({f'{code}: ' if code else ''}{reason}). {fix}")


def _checked_protocol(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{VARIABLE}={redacted(url)}: is not a URL. Write it like s3://bucket/prefix") from None
    if "@" in parts.netloc:
        raise ConfigError(
            f"{VARIABLE}={redacted(url)}: holds credentials. Give them as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or in a profile, where nothing prints them"
        )
    if parts.scheme not in PROTOCOLS or not (parts.netloc or parts.path.strip("/")):
        known = ", ".join(f"{protocol}://" for protocol in PROTOCOLS if protocol != "memory")
        raise ConfigError(
            f"{VARIABLE}={redacted(url)}: not a place for a store. Write it like s3://bucket/prefix (known: {known})"
        )
    return parts.scheme


def _make_folder(path: Path) -> None:
    """Like mkdir, but a file in the way is not a FileExistsError, which would mean that an object is there already."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "there is a file where a folder must be", error.filename) from error


def _code(error: BaseException) -> str:
    """The error code in the server's answer, such as NoSuchBucket; empty where there was none."""
    response = getattr(error.__cause__ or error, "response", None)
    found = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(found or "")


def remote_in_force() -> Remote | None:
    """The remote that LLMILL_STORE names, or None."""
    url = os.environ.get(VARIABLE, "").strip()
    return Remote(url) if url else None
