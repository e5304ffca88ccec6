"""A kind of bad input: how it comes about, the command that meets it, and what the message must hold."""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SHARED = "shared"  # all rows that leave the home as it is work on one: a smoke run's
OWN = "own"  # a copy of it, which the row may damage
EMPTY = "empty"
ADDRESS = "ADDRESS"  # in texts of files, the command and the environment: where the server of the row is

Contents = str | bytes | Callable[[], bytes]  # what is large is made when its row comes


@dataclass(frozen=True, slots=True)
class BadInput:
    """One row of the table. The command runs in a folder that holds `files`; `holds` are pieces of what it says."""

    name: str
    command: str  # after `llmill`, as typed into a shell
    holds: tuple[str, ...]
    files: Mapping[str, Contents] = field(default_factory=dict)
    prepare: Callable[[Path, Path], None] | None = None  # (working folder, home), after the files were written
    home: str = SHARED
    environment: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    status: int = 2  # 0 where the command does what it can and says what it skipped
    serve: Callable[[], AbstractContextManager[str]] | None = None  # a server that the command meets: its address

    def lay_out(self, folder: Path, home: Path, address: str = "") -> None:
        """Make what the command will meet."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = data() if callable(data) else data
            path.write_bytes(data if isinstance(data, bytes) else data.replace(ADDRESS, address or ADDRESS).encode())
        if self.prepare is not None:
            self.prepare(folder, home)


def files_below(folder: Path) -> dict[str, str]:
    """Every entry below a folder with its kind and the digest of its contents."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)  # noqa: PTH118 (hundreds of files for each of hundreds of rows)
            found[path[len(str(folder)) + 1 :]] = _contents(path)
    return found


def published(home: Path) -> dict[str, str]:
    """What a home holds for good: parts, manifests and build records."""
    return {
        f"{name}/{path}": contents
        for name in ("store/parts", "store/artifacts", "builds")
        for path, contents in files_below(home / name).items()
        if not path.rpartition("/")[2].startswith(".")  # a write of a row beside this one, not yet renamed
    }


def _contents(path: str) -> str:
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        return f"link to {Path(path).readlink()}"
    if not stat.S_ISREG(state.st_mode):
        return "no file"
    return _digest(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@cache
def _digest(path: str, *state: int) -> str:
    """Read again only after a change: no program can set the time of the last one (`st_ctime_ns`)."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
