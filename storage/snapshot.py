"""The code that a run executes: one copy of the sources, taken when the run starts.

People save files while a run goes on. A run that reads its keys from the disk and executes what it imported an hour
ago would publish the old code's results under the new code's keys. So the process that starts a run copies the
first-party packages into `cache/code/<digest>/` first, once for each state of the code, and imports all else from
there; shard workers and the trainer inherit its path. Keys are made of the same files. What is saved meanwhile is the
next run's.

The copies have one fixed modification time, so that compiled modules stay valid, and a new copy takes over what is
compiled of the same sources, in the previous copy or in the folder that they come from. Copies in use are held by a
lock; of the others the newest few stay.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import MAGIC_NUMBER
from pathlib import Path

PACKAGES = ("flows", "model", "storage", "tasks")  # no run reads deployments/, which may hold passwords and texts
VARIABLE = "LLMILL_CODE"  # the copy that this process and its children run from
ORIGIN = "LLMILL_CODE_ORIGIN"  # the folder that it was taken from
KEPT_COPIES = 5
FIXED_TIME = 1_600_000_000  # seconds
ATTEMPTS = 20
UNFINISHED = ".unfinished-"

_COMPILED = "__pycache__"
_held: list[int] = []  # descriptors of the locks of the copies that this process runs from


def enter(home: Path) -> None:
    """Take a snapshot and run from it from here on: this process in its later imports, and its children.

    To be called before anything else is imported. First-party modules that are loaded already are forgotten.
    """
    if os.environ.get(VARIABLE):
        return
    origin = Path(__file__).resolve().parents[1]
    copy = take(origin, home / "cache" / "code")
    os.environ |= {VARIABLE: str(copy), ORIGIN: str(origin)}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def origin() -> Path | None:
    """The folder of the code that this process runs a copy of; None where it runs no copy."""
    return Path(os.environ[ORIGIN]) if os.environ.get(VARIABLE) else None


def copy() -> Path:
    """The copy that this process runs from."""
    return Path(os.environ[VARIABLE])


def original(path: Path) -> Path:
    """Where a file of the copy was taken from, for messages; any other path as it is."""
    checkout = origin()
    if checkout is None or not path.is_relative_to(copy()):
        return path
    return checkout / path.relative_to(copy())


def take(origin: Path, folder: Path) -> Path:
    """The copy of the packages in `origin` as they are now, made in `folder` unless it is there and whole."""
    sources, _ = read(origin)
    copy = folder / digest(sources)
    folder.mkdir(parents=True, exist_ok=True)
    _held.append(_lock(folder / f"{copy.name}.lock", fcntl.LOCK_SH))
    if not _is_whole(copy, sources):
        _write(copy, sources, origin)
    os.utime(copy)
    _remove_old(folder)
    return copy


State = tuple[int, int, int]  # of a file: inode, size in bytes, modification time in nanoseconds


def read(origin: Path) -> tuple[dict[str, bytes], dict[str, State]]:
    """All files of the packages and their states by relative path, none of them while it was being written."""
    for _ in range(ATTEMPTS):
        before = states(origin)
        try:
            sources = {name: Path(origin, name).read_bytes() for name in before}
        except FileNotFoundError:
            continue
        if states(origin) == before:
            break
    return sources, before


def states(origin: Path) -> dict[str, State]:
    """The state of every file of the packages, by relative path in order."""
    found: dict[str, State] = {}
    for package in PACKAGES:
        _add_states(origin / package, package, found)
    return found


def _add_states(folder: Path, name: str, found: dict[str, State]) -> None:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            inner = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name != _COMPILED:
                    _add_states(folder / entry.name, inner, found)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    state = (folder / entry.name).lstat()  # the entry's own may be old on network file systems
                    found[inner] = (state.st_ino, state.st_size, state.st_mtime_ns)


def digest(sources: Mapping[str, bytes]) -> str:
    """128 bits, hexadecimal, of the names and contents of files."""
    whole = hashlib.sha256()
    for name, content in sources.items():
        whole.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        whole.update(content)
    return whole.hexdigest()[:32]


def _is_whole(copy: Path, sources: dict[str, bytes]) -> bool:
    """Whether the copy holds these files and no others: somebody may have edited it, or deleted half of it."""
    if set(states(copy)) != set(sources):
        return False
    return all((copy / name).read_bytes() == content for name, content in sources.items())


def _write(copy: Path, sources: dict[str, bytes], origin: Path) -> None:
    staging = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=copy.parent))
    try:
        compiled_in = [*itertools.islice(_copies(copy.parent), 1), origin]
        for name, content in sources.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (FIXED_TIME, FIXED_TIME))
            compiled = next(filter(None, (_compiled(folder / name, content) for folder in compiled_in)), None)
            if compiled is not None:
                place = _place_of_compiled(path)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(compiled)
        while True:
            try:
                staging.rename(copy)
                return
            except OSError:
                if _is_whole(copy, sources):  # another run has made the same
                    return
                shutil.rmtree(copy)  # damaged
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _compiled(source: Path, content: bytes) -> bytes | None:
    """What Python has compiled of a source of this content, made valid for the copy; None where there is nothing.

    Python tells compiled modules from outdated ones by the second and the size of the source. A source can be saved
    twice in a second, so what was compiled in that second or the next is not taken. The header: a magic number, flags,
    time and size (PEP 552).
    """
    place = _place_of_compiled(source)
    with suppress(OSError):
        compiled, saved = place.read_bytes(), int(source.stat().st_mtime)
        current = compiled.startswith(_header(saved, content)) and place.stat().st_mtime >= saved + 2
        if current and source.read_bytes() == content:
            return _header(FIXED_TIME, content) + compiled[16:]
    return None


def _header(saved: int, content: bytes) -> bytes:
    return MAGIC_NUMBER + struct.pack("<III", 0, saved & 0xFFFFFFFF, len(content) & 0xFFFFFFFF)


def _place_of_compiled(source: Path) -> Path:
    return source.parent / _COMPILED / f"{source.stem}.{sys.implementation.cache_tag}.pyc"


def _copies(folder: Path) -> Iterator[Path]:
    """The copies there are, the one that was used last first."""
    names = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(UNFINISHED))
    yield from sorted(names, key=lambda path: (-path.stat().st_mtime_ns, path.name))


def _remove_old(folder: Path) -> None:
    """Remove the copies beyond the newest that no process runs from."""
    for copy in list(_copies(folder))[KEPT_COPIES:]:
        lock = folder / f"{copy.name}.lock"
        try:
            held = _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        shutil.rmtree(copy, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(held)


def _lock(path: Path, how: int) -> int:
    """A descriptor that holds a lock on a file that is there, until it is closed or its process ends."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, how)
            if os.fstat(descriptor).st_nlink:  # not removed while this process waited
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
