"""SHA-256 of files outside the store, behind a cache, so that a large source is not re-read by every plan.

A file counts as unchanged while its size, modification time (ns), change time (ns) and inode stay as they were when
it was hashed. A file modified within `RACY_SECONDS` of being hashed is not remembered: a second write within one
tick of the clock would leave no trace (git calls this a racily clean entry). The change time catches tools that
restore the modification time. Losing the cache costs a re-read, never a wrong answer.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from storage.canonical import digest_file
from storage.errors import DataError
from storage.home import home
from storage.store.artifacts import StoredFile

RACY_SECONDS = 2.0
WAIT_SECONDS = 10.0  # for another process that writes the cache

_TABLE = """
create table if not exists hashes (
    path blob primary key, size integer, modified integer, changed integer, inode integer, digest text
) without rowid
"""


def hash_files(files: Sequence[tuple[str, Path]], cache: Path | None = None) -> list[StoredFile]:
    """The files, given by name and path, with their SHA-256; those that have not moved are not read.

    DataError where one cannot be read.
    """
    cache = cache or home() / "cache" / "file-hashes.sqlite"
    try:
        with contextlib.suppress(OSError):  # a home that cannot be written: opening the cache fails too
            cache.parent.mkdir(parents=True, exist_ok=True)
        return _hash_files(files, cache)
    except sqlite3.OperationalError:  # locked for long, a home that is read-only, a full disk: do without
        return [_hash(name, path) for name, path in files]
    except sqlite3.DatabaseError:  # damaged: it is only a cache
        cache.unlink(missing_ok=True)
        return _hash_files(files, cache)


def _hash_files(files: Sequence[tuple[str, Path]], cache: Path) -> list[StoredFile]:
    hashed = []
    learned = []
    with closing(sqlite3.connect(cache, timeout=WAIT_SECONDS)) as database:
        database.execute(_TABLE)
        for name, path in files:
            status = _status(path)
            state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            key = os.fsencode(path.absolute())
            row = database.execute(
                "select digest from hashes where path=? and size=? and modified=? and changed=? and inode=?",
                (key, *state),
            ).fetchone()
            if row:
                hashed.append(StoredFile(name, row[0], status.st_size, path))
                continue
            file = _hash(name, path)
            hashed.append(file)
            newest = max(status.st_mtime_ns, status.st_ctime_ns) / 1e9
            if file.bytes == status.st_size and time.time() - newest > RACY_SECONDS:
                learned.append((key, *state, file.digest))
        if learned:
            with database:
                database.executemany("insert or replace into hashes values (?, ?, ?, ?, ?, ?)", learned)
    return hashed


def _hash(name: str, path: Path) -> StoredFile:
    try:
        digest = digest_file(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return StoredFile(name, digest, _status(path).st_size, path)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file of the user's that the operating system does not let us read."""
    return DataError(f"{path}: cannot be read ({error.strerror}). Fix the file or its permissions, or remove it.")
