"""Leases: locks on a shared store that free themselves when their holder dies.

```
leases/<key>/<generation>.json     {run, host, process, since, home, seconds, beat, free}
```

The newest generation is the lock. Its holder changes `beat` every third of the lease; when it is done it marks its
object free. Whoever finds the newest free, or unchanged for as long as its holder promised to change it, creates the
next generation: the one thing that must be atomic is that an object is created only if it is not there, which every
object store offers and fsspec exposes. No clocks are compared: each waits by its own. Numbers only grow, so that
nobody who was slow can come back into an older lease.

A holder that was taken for dead (it was stopped, or cut off for longer than its lease) does no harm when it goes on:
what it publishes is named by its contents, and equal work meets.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json, digest_of
from storage.errors import StoreError
from storage.store.remote import Remote
from storage.waiting import REPEAT_SECONDS, Waiting, describe_holder

SHARE_WATCHED = 0.9  # of the lease: with the polls around it, a dead holder is found within its lease
POLLS_A_LEASE = 20
MAX_POLL_SECONDS = 3.0
BEATS_A_LEASE = 3
MAX_SECONDS = 3600.0


def nobody(holder: str) -> None:
    """The `waiting` that shows nothing."""


def home_identity(home: Path) -> str:
    """Names one home on one machine: a copy of it elsewhere is another."""
    status = home.stat()
    return digest_of([socket.gethostname(), status.st_dev, status.st_ino])[:16]


@contextmanager
def leased(
    remote: Remote,
    key: str,
    home: str,
    seconds: float,
    waiting: Waiting = nobody,
    holder: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Hold the lease of a key; while another holds it, `waiting` is called with who that is, at once and each minute.

    The caller holds the key's `flock` in its home, so a lease that this very home has left behind is a dead one's
    and is taken over at once.
    """
    lease = _Lease(remote, f"leases/{key}", home, seconds, holder or {})
    lease.acquire(waiting)
    beating = threading.Thread(target=lease.keep, name="lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        lease.release()


class _Lease:
    def __init__(self, remote: Remote, folder: str, home: str, seconds: float, holder: Mapping[str, str]) -> None:
        self._remote, self._folder, self._seconds = remote, folder, seconds
        self._body: dict[str, Any] = {
            "format": 1,
            **holder,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "home": home,
            "seconds": seconds,
            "beat": 0,
            "free": False,
        }
        self._generation = 0
        self._done = threading.Event()
        self._writing = threading.Lock()

    def acquire(self, waiting: Waiting) -> None:
        seen: tuple[int, bytes | None, float] = (0, None, 0.0)  # the newest lease and since when it is unchanged
        next_notice = 0.0
        while True:
            newest = self._newest()
            data = self._remote.read(self._path(newest)) if newest else None
            if (newest, data) != seen[:2]:
                seen = (newest, data, time.monotonic())
            body = _parsed(data)
            promised = body.get("seconds", self._seconds)
            unchanged = time.monotonic() - seen[2]
            dead = body.get("home") == self._body["home"] or unchanged >= SHARE_WATCHED * promised
            if not newest or body.get("free") or dead:
                if self._create(newest + 1):
                    return
                continue
            if body and time.monotonic() >= next_notice:  # one that is being written is still empty
                waiting(describe_holder(body))
                next_notice = time.monotonic() + REPEAT_SECONDS
            time.sleep(min(MAX_POLL_SECONDS, promised / POLLS_A_LEASE))

    def _create(self, generation: int) -> bool:
        """Become the newest generation; a slower one than others removes its object again."""
        data = canonical_json({**self._body, "nonce": os.urandom(8).hex()})
        if not self._remote.create(self._path(generation), data):
            return False
        others = self._generations() - {generation}
        if any(other > generation for other in others):
            self._remote.delete(self._path(generation))
            return False
        for other in others:
            self._remote.delete(self._path(other))
        self._generation = generation
        return True

    def keep(self) -> None:
        """Renew the lease until it is released or lost to another."""
        while not self._done.wait(self._seconds / BEATS_A_LEASE):
            try:
                with self._writing:
                    if self._done.is_set() or not self._beat():
                        return
            except StoreError:  # cut off: the next beat may come through
                continue

    def release(self) -> None:
        """Mark the lease free; where that is not possible it runs out by itself."""
        self._done.set()
        with self._writing:
            try:
                self._beat(free=True)
            except StoreError:
                return

    def _beat(self, free: bool = False) -> bool:
        if self._newest() != self._generation:  # lost
            return False
        self._body |= {"beat": self._body["beat"] + 1, "free": free}
        self._remote.write(self._path(self._generation), canonical_json(self._body))
        return True

    def _newest(self) -> int:
        return max(self._generations(), default=0)

    def _generations(self) -> set[int]:
        names = (name.removesuffix(".json") for name in self._remote.names(self._folder))
        return {int(name) for name in names if name.isdecimal()}

    def _path(self, generation: int) -> str:
        return f"{self._folder}/{generation:09d}.json"


def _parsed(data: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(data or b"")
    except ValueError:  # being written, or damaged: runs out like any other
        return {}
    if not isinstance(body, dict) or not isinstance(body.get("seconds"), int | float):
        return {}
    return body | {"seconds": min(max(body["seconds"], 0.0), MAX_SECONDS)}
