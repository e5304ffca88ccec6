"""Writing files so that a reader sees all of one or none, and a kill loses nothing that was published."""

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json

FICLONE = 0x40049409  # of linux/fs.h
COPY_BYTES = 1 << 20


def fsync_path(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file's contents in one step: temporary file in the same folder, fsync, rename.

    What is only a cache, and is checked when it is read, need not be durable: it waits for no disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        if durable:
            fsync_path(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON atomically."""
    write_atomic(path, canonical_json(value) + b"\n")


def read_json(path: Path) -> Any | None:
    """The JSON value of a file, or None where there is no whole file (missing or damaged)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it on a file system without hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def clone_or_copy(source: Path, target: Path) -> None:
    """Give a file a copy of its own: sharing its blocks until one is written, where the file system can (Linux)."""
    with source.open("rb") as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy, FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, COPY_BYTES)


def is_utf8(name: str) -> bool:
    """Whether a file's name is text: on Linux it may be any bytes, which Python holds as surrogates (PEP 383)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder or file if it is there. It vanishes from its name at once, so that nobody sees half."""
    trash = path.with_name(f".trash-{uuid.uuid4().hex}")
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    if trash.is_dir():
        shutil.rmtree(trash, ignore_errors=True)
    else:
        trash.unlink()


@contextmanager
def locked(path: Path, *, blocking: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold an exclusive or a shared `flock`; yields whether it was got. The kernel frees it when the holder dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # only read by who may not write here
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
