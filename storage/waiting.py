"""Waiting for a lock that another process of this machine holds, and showing whose it is.

The holder writes a line into the lock file: which run, which stage, since when. That is for people; the kernel's lock
decides, and frees itself when its holder dies.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.bystander import bystander

POLL_SECONDS = 0.1
UNKNOWN_SECONDS = 2.0  # a holder that has not said so long who it is will not say it
REPEAT_SECONDS = 60.0  # who is waited for is shown at once, and again after so long

Waiting = Callable[[str], None]


@contextmanager
def held(path: Path, holder: Mapping[str, str], waiting: Waiting) -> Iterator[None]:
    """Hold an exclusive lock; `waiting` is called with who else holds it, at once and each minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path, waiting)
        os.ftruncate(descriptor, 0)
        content = {**holder, "process": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.pwrite(descriptor, json.dumps(content).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, waiting: Waiting) -> None:
    started, next_notice = time.monotonic(), 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            now, holder = time.monotonic(), _holder(path)
            if now >= next_notice and (holder or now - started >= UNKNOWN_SECONDS):
                waiting(_who_holds(holder))
                next_notice = now + REPEAT_SECONDS
            time.sleep(POLL_SECONDS)


@bystander
def describe_holder(holder: Mapping[str, Any]) -> str:
    """`run NAME (process 12 on HOST), since 12:03:05 UTC`, as far as it is known."""
    name = f"run {holder['run']}" if holder.get("run") else "another process"
    where = f" on {holder['host']}" if holder.get("host") else ""
    process = f" (process {holder['process']}{where})" if holder.get("process") else ""
    since = f", since {str(holder['since'])[11:19]} UTC" if holder.get("since") else ""
    return f"{name}{process}{since}"


@bystander
def _holder(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):  # just taken, and not yet written
        holder = {}
    return holder if isinstance(holder, dict) else {}


@bystander
def _who_holds(holder: Mapping[str, Any]) -> str:
    process = holder.get("process")
    stopped = f": it is stopped, `kill -CONT {process}` lets it go on" if _is_stopped(process) else ""
    return f"{describe_holder(holder)}{stopped}"


@bystander
def _is_stopped(process: Any) -> bool:
    """Whether a process of this machine is stopped by a signal, not dead (proc(5), state T)."""
    try:
        state = Path(f"/proc/{int(process)}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError, TypeError, IndexError):
        return False
    return state in ("T", "t")
