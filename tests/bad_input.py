"""A kind of bad input: how it comes about, the command that meets it, and what the message must hold."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
    return {path.relative_to(folder).as_posix(): _contents(path) for path in sorted(folder.rglob("*"))}


def published(home: Path) -> dict[str, str]:
    """What a home holds for good: parts, manifests and build records."""
    return {
        f"{name}/{path}": contents
        for name in ("store/parts", "store/artifacts", "builds")
        for path, contents in files_below(home / name).items()
        if not path.rpartition("/")[2].startswith(".")  # a write of a row beside this one, not yet renamed
    }


def _contents(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
