"""Archives read in place: .tar (plain or packed) and .zip -> their members, one at a time in one file on disk.

What a member's name says decides how it is read, as for a file in a folder. Refused by name are links, devices, names
that lead out of the archive and archives in archives. A tar must come to its end mark, and a packed one to the end of
its stream: a cut one may end between two members as if it were whole. A .zip has its list of members at its end; of one
that is cut the members are found by their own headers, so that what is before the break can be kept.
"""

import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from storage.files import is_utf8
from storage.listing import and_more
from storage.source_hashes import unreadable
from tasks.collect.discover import ARCHIVES, ENDINGS_SHOWN, Kind, counted, ending_of, kind_of, whose
from tasks.collect.unpack import BLOCK_BYTES, FREE_BYTES, MAX_GROWTH, BrokenStream, is_packed, read_blocks
from tasks.engine.context import Summary

MAX_MEMBERS = 1_000_000
MAX_HEADER_BYTES = 2**20  # of a tar's extended header, which is read into memory
REFUSED_SHOWN = 5
_LOCAL = struct.Struct("<4s5H3L2H")  # a member's own header in a .zip
_ENCRYPTED, _STREAMED, _UTF8_NAME = 0x1, 0x8, 0x800


@dataclass
class LeftOut:
    """Members that are not read: by ending, hidden ones, and those that are refused, the first with the reason."""

    endings: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    refused: int = 0
    shown: list[str] = field(default_factory=list)
    note: Callable[[str, str], None] = field(default=lambda rule, file: None)  # is told of each

    @property
    def total(self) -> int:
        """How many they are."""
        return self.endings.total() + self.hidden + self.refused

    def refuse(self, name: str, why: str) -> None:
        self.refused += 1
        self.note(why, name)
        if len(self.shown) < REFUSED_SHOWN:
            self.shown.append(f"{name.encode('utf-8', 'backslashreplace').decode()}: {why}")

    def summary(self) -> Summary:
        return {"endings": dict(self.endings), "hidden": self.hidden, "refused": self.refused, "shown": self.shown}

    def add(self, other: "LeftOut") -> None:
        self.endings.update(other.endings)
        self.hidden += other.hidden
        self.refused += other.refused
        self.shown += other.shown[: REFUSED_SHOWN - len(self.shown)]

    def sentences(self, source: str) -> list[str]:
        """What is left out, for the user."""
        said = []
        if self.endings:
            kinds = ", ".join(f"{count} {ending}" for ending, count in Counter(self.endings).most_common(ENDINGS_SHOWN))
            said.append(
                f"source {source}: in archives {counted(sum(self.endings.values()), 'member')} not read, as "
                f"{whose(sum(self.endings.values()))} ending is not known: {kinds}"
            )
        if self.hidden:
            said.append(f"source {source}: in archives {counted(self.hidden, 'hidden member')} not read")
        if self.refused:
            more = self.refused - len(self.shown)
            shown = "; ".join([*self.shown, *([and_more(more)] if more else [])])
            said.append(f"source {source}: in archives {counted(self.refused, 'member')} refused: {shown}")
        return said


@dataclass(frozen=True, slots=True)
class Member:
    """A member that is read: its name in the archive, its kind, its path on disk; `fault` where it has no contents."""

    name: str
    kind: Kind
    path: Path
    fault: str = ""


def read_members(
    archive: str, path: Path, scratch: Path, formats: tuple[str, ...], max_window_bytes: int, left_out: LeftOut
) -> Iterator[Member]:
    """The members of an archive in order; each is on disk until the next is asked for. Raises BrokenStream where the
    archive breaks, after the last whole member. `archive` is its name in the source, which says how it is packed."""
    kind = kind_of(archive)
    assert kind is not None, archive
    copy = scratch / "member"
    members = _zipped(path) if kind.format == "zip" else _taped(path, kind, max_window_bytes)
    try:
        for count, (name, why, blocks) in enumerate(members):
            if count >= MAX_MEMBERS:
                raise BrokenStream(f"the archive has more than {MAX_MEMBERS:,} members")
            name = name.removeprefix("./")
            found = _wanted(archive, name, why, formats, left_out)
            if found is None:
                continue
            fault = ""
            try:
                with copy.open("wb") as file:
                    file.writelines(blocks)
            except _Protected as protected:
                fault = str(protected)
            yield Member(name, found, copy, fault)
    finally:
        copy.unlink(missing_ok=True)


class _Protected(Exception):
    """A member that needs a password or a method that Python does not have."""


_Entry = tuple[str, str, Iterator[bytes]]  # name, why it is refused, its bytes


def _wanted(archive: str, name: str, why: str, formats: tuple[str, ...], left_out: LeftOut) -> Kind | None:
    """The kind of a member that is read; others are counted."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    base = parts[-1] if parts else ""
    if not is_utf8(name):
        why = "its name is not UTF-8"
    elif name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts:
        why = "its name leads out of the archive"
    kind = kind_of(base, (*formats, *ARCHIVES))
    if kind is not None and kind.format in ARCHIVES:
        why = why or "an archive in an archive"
    if why:
        left_out.refuse(f"{archive}/{name}", why)
    elif any(part.startswith(".") or part == "__MACOSX" for part in parts):
        left_out.hidden += kind is not None
        left_out.note("hidden", f"{archive}/{name}")
    elif kind is None:
        left_out.endings[ending_of(base)] += 1
        left_out.note("its ending is not known", f"{archive}/{name}")
    else:
        return kind
    return None


class _Forward(io.RawIOBase):
    """Blocks of bytes as a file that is read forward, for tarfile; remembers the last header that was asked for."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._held, self._position = blocks, b"", 0
        self.header = b""

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset < self._position:
            raise BrokenStream("the tar file is damaged: it leads back")
        while self._position < offset and self._take(min(BLOCK_BYTES, offset - self._position)):
            pass
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise BrokenStream(f"the tar file is damaged: a header of {size:,} bytes")
        pieces = []
        while size and (piece := self._take(size)):
            pieces.append(piece)
            size -= len(piece)
        data = b"".join(pieces)
        if len(data) in (0, tarfile.BLOCKSIZE):
            self.header = data
        return data

    def _take(self, size: int) -> bytes:
        if not self._held:
            self._held = next(self._blocks, b"")
        piece, self._held = self._held[:size], self._held[size:]
        self._position += len(piece)
        return piece

    def rest(self) -> Iterator[bytes]:
        yield self._held
        yield from self._blocks


def _taped(path: Path, kind: Kind, max_window_bytes: int) -> Iterator[_Entry]:
    packing = kind.packing if kind.packing and is_packed(path, kind.packing, "tar") else ""
    file = _Forward(read_blocks(path, packing, "tar", max_window_bytes))
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isdir():
                    continue
                why = "" if member.isreg() and not member.issparse() else _KINDS.get(member.type, "no ordinary file")
                yield member.name, why, _taped_blocks(archive, member)
    except tarfile.TarError as error:
        raise BrokenStream(f"the tar file is damaged or cut ({error})") from error
    if file.header.strip(b"\0") or not file.header:
        raise BrokenStream("the tar file ends early: it was cut, or is damaged")
    if any(block.strip(b"\0") for block in file.rest()):
        raise BrokenStream("there is more after the end of the tar file: is it two, one after the other?")


_KINDS = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link"}


def _taped_blocks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    opened = archive.extractfile(member)
    assert opened is not None, member.name
    try:
        while block := opened.read(BLOCK_BYTES):
            yield block
    except tarfile.TarError as error:
        raise BrokenStream(f"the tar file ends early: it was cut ({error})") from error


def _zipped(path: Path) -> Iterator[_Entry]:
    limit = _Limit(FREE_BYTES + MAX_GROWTH * path.stat().st_size)
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except zipfile.BadZipFile:
        yield from _cut_zip(path, limit)
        return
    with archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, _zip_link(member), _zipped_blocks(archive, member, limit)


def _zip_link(member: zipfile.ZipInfo) -> str:
    return "a link" if stat.S_ISLNK(member.external_attr >> 16) else ""


class _Limit:
    """What all members of an archive may unpack to, in bytes."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, block: bytes) -> bytes:
        self._left -= len(block)
        if self._left < 0:
            raise BrokenStream(f"the .zip file unpacks to more than {MAX_GROWTH} times its size")
        return block


def _zipped_blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: _Limit) -> Iterator[bytes]:
    if member.flag_bits & _ENCRYPTED:
        raise _Protected("protected by a password")
    try:
        with archive.open(member) as opened:
            while block := opened.read(BLOCK_BYTES):
                yield limit.take(block)
    except NotImplementedError as error:
        raise _Protected(f"packed by a method that is not known ({error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BrokenStream(f"the .zip file is damaged ({error})") from error


def _cut_zip(path: Path, limit: _Limit) -> Iterator[_Entry]:
    """The members of a .zip without its list, by their own headers, and then the break."""
    with path.open("rb") as file:
        while True:
            head = file.read(_LOCAL.size)
            if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
                break
            _, _, flags, method, _, _, _, size, _, name_bytes, extra_bytes = _LOCAL.unpack(head)
            raw = file.read(name_bytes)
            file.seek(extra_bytes, 1)
            name = raw.decode("utf-8" if flags & _UTF8_NAME else "cp437", "replace")
            if flags & _ENCRYPTED or method not in (0, 8) or (method == 0 and flags & _STREAMED):
                break
            start = file.tell()
            end = _end_of_member(file, method, size)
            if end is None:
                break
            if not name.endswith("/"):
                file.seek(start)
                yield name, "", _cut_member(file, method, size, limit)
            file.seek(end)
            if flags & _STREAMED:  # behind it are its checksum and sizes, with or without a mark
                file.seek(12 if file.read(4) == b"PK\x07\x08" else 8, 1)
    raise BrokenStream("the .zip file has no list of its members at the end: it was cut, or is no .zip file")


def _end_of_member(file: IO[bytes], method: int, size: int) -> int | None:
    """Where a member that begins here ends; None for one that is cut or damaged."""
    if method == 0:
        here = file.tell()
        return here + size if file.seek(0, 2) >= here + size else None
    stream = zlib.decompressobj(-15)
    try:
        while not stream.eof and (block := file.read(BLOCK_BYTES)):
            while block and not stream.eof:
                stream.decompress(block, BLOCK_BYTES)
                block = stream.unconsumed_tail
    except zlib.error:
        return None
    return file.tell() - len(stream.unused_data) if stream.eof else None


def _cut_member(file: IO[bytes], method: int, size: int, limit: _Limit) -> Iterator[bytes]:
    """The bytes of a member that is known to be whole."""
    if method == 0:
        while size and (block := file.read(min(size, BLOCK_BYTES))):
            size -= len(block)
            yield limit.take(block)
        return
    stream = zlib.decompressobj(-15)
    while not stream.eof and (block := file.read(BLOCK_BYTES)):
        while block and not stream.eof:
            yield limit.take(stream.decompress(block, BLOCK_BYTES))
            block = stream.unconsumed_tail
