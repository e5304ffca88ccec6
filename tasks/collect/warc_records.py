"""WARC files (ISO 28500) -> their records, one at a time: packed or not, whole or damaged.

The frames are cut here and not by FastWARC, which ends at a cut file as if all were there and at a damaged record for
good. A record whose length or header is wrong costs itself: reading goes on where the next one begins, and in a .gz
file, whose records are packed each alone, behind what cannot be unpacked. Memory: one record of at most `limit` bytes.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.collect.records import BadRecord, excerpt
from tasks.collect.unpack import BLOCK_BYTES, FREE_BYTES, MAX_GROWTH, BrokenStream, is_packed, read_blocks

MAX_HEADER_BYTES = 64 * 1024
_GZIP_MEMBER = b"\x1f\x8b\x08"
_START = re.compile(rb"WARC/\d\.\d{1,2}\r?\n")
_NEXT = re.compile(rb"(?:^|\n)(?=WARC/\d\.\d{1,2}\r?\n)")
_LONGEST_START = 16  # bytes that _NEXT may take
_LENGTH = re.compile(rb"\d{1,18}")


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it stands: its number in the file, its headers by lower-case name, and its block.

    `block` is empty where it is not wanted, and the beginning of one that is longer than the limit.
    """

    number: int
    headers: dict[str, str]
    block: bytes
    length: int

    @property
    def type(self) -> str:
        """The WARC-Type in lower case."""
        return self.headers.get("warc-type", "").lower()

    @property
    def is_whole(self) -> bool:
        """Whether the block is all that was there, and the crawler says of none that it cut it."""
        return len(self.block) == self.length and "warc-truncated" not in self.headers


def read_frames(
    path: Path, packing: str, wanted: frozenset[str], limit: int, max_window_bytes: int
) -> Iterator[Frame | BadRecord]:
    """The records of a file in order. `wanted` are the types whose blocks are read, `limit` their longest in bytes."""
    if packing and packing != "lz4" and not is_packed(path, packing):
        packing = ""
    if packing == "gz":
        yield from _read_members(path, wanted, limit)
        return
    blocks = _lz4_blocks(path) if packing == "lz4" else read_blocks(path, packing, max_window_bytes=max_window_bytes)
    reader = _FrameReader(wanted, limit)
    try:
        yield from reader.frames(blocks)
    except BrokenStream as broken:
        yield BadRecord(reader.number + 1, str(broken), rest_lost=True)


def _read_members(path: Path, wanted: frozenset[str], limit: int) -> Iterator[Frame | BadRecord]:
    """The records of a .gz file; what cannot be unpacked is passed over up to the next record."""
    reader = _FrameReader(wanted, limit)
    with path.open("rb") as file:
        members = _Members(file, path.stat().st_size)
        start: int | None = 0
        while start is not None:
            try:
                yield from reader.frames(members.blocks(start))
                return
            except BrokenStream as broken:
                start = members.next_record(members.begins + 1) if members.may_go_on else None
                reader.number += 1
                reason = str(broken)
                if start is not None:
                    reason += f"; read on {start - members.begins:,} bytes further"
                yield BadRecord(reader.number, reason, rest_lost=start is None)


class _Members:
    """The members of a .gz file, and where the one under way begins: a record can be found behind a damaged one."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._limit = file, FREE_BYTES + MAX_GROWTH * size
        self._total = 0
        self.begins = 0
        self.may_go_on = True

    def blocks(self, start: int) -> Iterator[bytes]:
        """What is unpacked from a place on; BrokenStream where that ends.

        The last block of a member comes when its checksum is right: a record of a damaged one never comes whole.
        """
        self._file.seek(start)
        self.begins = start
        read_to = start  # the place in the file behind what was read
        member = zlib.decompressobj(wbits=31)
        data, unchecked = b"", b""
        while data or (data := self._file.read(BLOCK_BYTES)):
            read_to = self._file.tell()
            try:
                block = member.decompress(data, BLOCK_BYTES)
            except zlib.error as error:
                raise BrokenStream(f"the .gz stream is damaged ({error})") from error
            data = member.unconsumed_tail
            if block:
                self._grow(len(block))
                if unchecked:
                    yield unchecked
                unchecked = block
            if member.eof:
                if unchecked:
                    yield unchecked
                unchecked = b""
                data = member.unused_data.lstrip(b"\0")
                self.begins = read_to - len(data)
                member = zlib.decompressobj(wbits=31)
        if self.begins < read_to:
            raise BrokenStream("the .gz stream ends early: the file was cut")

    def _grow(self, count: int) -> None:
        self._total += count
        if self._total > self._limit:
            self.may_go_on = False
            raise BrokenStream(f"the .gz file unpacks to more than {MAX_GROWTH} times its size")

    def next_record(self, start: int) -> int | None:
        """Where the next member begins that holds a record."""
        overlap = len(_GZIP_MEMBER) - 1
        while True:
            self._file.seek(start)
            data = self._file.read(2**20)
            found = data.find(_GZIP_MEMBER)
            while found >= 0:
                if self._holds_a_record(start + found):
                    return start + found
                found = data.find(_GZIP_MEMBER, found + 1)
            if len(data) <= overlap:
                return None
            start += len(data) - overlap

    def _holds_a_record(self, place: int) -> bool:
        self._file.seek(place)
        try:
            beginning = zlib.decompressobj(wbits=31).decompress(self._file.read(1024), _LONGEST_START)
        except zlib.error:
            return False
        return _START.match(beginning) is not None


def _lz4_blocks(path: Path) -> Iterator[bytes]:
    from fastwarc.stream_io import Lz4Reader

    limit, total = FREE_BYTES + MAX_GROWTH * path.stat().st_size, 0
    with path.open("rb") as file:
        reader = Lz4Reader(file)
        try:
            while block := reader.read(BLOCK_BYTES):
                total += len(block)
                if total > limit:
                    raise BrokenStream(f"the .lz4 file unpacks to more than {MAX_GROWTH} times its size")
                yield block
        except OSError as error:
            raise BrokenStream(f"the .lz4 stream is cut or damaged ({error})") from error


class _FrameReader:
    """Cuts a stream of bytes into records; `number` is that of the last one, good or bad."""

    def __init__(self, wanted: frozenset[str], limit: int) -> None:
        self._wanted, self._limit = wanted, limit
        self.number = 0

    def frames(self, blocks: Iterator[bytes]) -> Iterator[Frame | BadRecord]:
        """The records of one stream; BrokenStream from the blocks passes through, as does that of a cut end."""
        stream = _Stream(blocks)
        while stream.skip_blank():
            self.number += 1
            found = self._frame(stream)
            if isinstance(found, BadRecord):
                stream.seek_record()
            yield found
        stream.check_end()

    def _frame(self, stream: "_Stream") -> Frame | BadRecord:
        head = stream.head()
        if head is None:
            if stream.ended:
                self.number -= 1
                raise stream.cut("the header of a record")
            return self._bad("no header of a record where one must begin", stream.peek(200))
        headers = _parsed(head)
        length = _LENGTH.fullmatch(headers.get("content-length", "").encode())
        if length is None:
            return self._bad("a header without Content-Length, or with a wrong one", head)
        size = int(length[0])
        wanted = headers.get("warc-type", "").lower() in self._wanted
        block = stream.take(min(size, self._limit)) if wanted else b""
        if block is None or not stream.skip(size - len(block)):
            self.number -= 1
            raise stream.cut("a record")
        if not stream.record_ends():
            stream.put_back(block)  # the next record may begin in it
            return self._bad("its Content-Length is wrong: no record begins where it ends", head)
        return Frame(self.number, headers, block, size)

    def _bad(self, reason: str, raw: bytes) -> BadRecord:
        return BadRecord(self.number, reason, excerpt(raw))


class _Stream:
    """Bytes as they come, with a look ahead of at most a header."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = b""
        self._broken: BrokenStream | None = None  # raised when all before it has been taken
        self.ended = False

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the stream."""
        pieces, length = [self._held], len(self._held)
        while length < count and not self.ended:
            try:
                block = next(self._blocks, b"")
            except BrokenStream as broken:
                block, self._broken = b"", broken
            self.ended = not block
            pieces.append(block)
            length += len(block)
        self._held = b"".join(pieces)
        return self._held[:count]

    def take(self, count: int) -> bytes | None:
        """The next bytes, or None where there are not as many."""
        data = self.peek(count)
        self._held = self._held[count:]
        return data if len(data) == count else None

    def skip(self, count: int) -> bool:
        """Pass over bytes; false where there are not as many."""
        while count:
            piece = self.peek(min(count, BLOCK_BYTES))
            if not piece:
                return False
            self._held = self._held[len(piece) :]
            count -= len(piece)
        return True

    def cut(self, where: str) -> BrokenStream:
        """Why the stream ends too early."""
        return self._broken or BrokenStream(f"the file ends within {where}: it was cut")

    def check_end(self) -> None:
        """Raise what the stream broke with, if it did not just end."""
        if self._broken is not None:
            raise self._broken

    def put_back(self, data: bytes) -> None:
        self._held = data + self._held

    def skip_blank(self) -> bool:
        """Pass over line ends between records; false at the end of the stream."""
        while data := self.peek(BLOCK_BYTES):
            rest = data.lstrip(b"\r\n")
            self._held = self._held[len(data) - len(rest) :]
            if rest:
                return True
        return False

    def head(self) -> bytes | None:
        """The header of a record, to the blank line; None where there is none."""
        wanted = 4096
        while True:
            data = self.peek(wanted)
            if not _START.match(data) and (len(data) >= _LONGEST_START or self.ended):
                self.ended = self.ended and b"WARC/".startswith(data[:5])
                return None
            ends = [place + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (place := data.find(mark)) >= 0]
            if ends:
                self._held = self._held[min(ends) :]
                return data[: min(ends)]
            if len(data) < wanted or wanted >= MAX_HEADER_BYTES:
                return None
            wanted *= 2

    def record_ends(self) -> bool:
        """Whether the stream ends here, or a record begins behind line ends."""
        if not self.skip_blank():
            return True
        beginning = self.peek(_LONGEST_START)
        cut = self.ended and b"WARC/".startswith(beginning[:5])
        return cut or _START.match(beginning) is not None

    def seek_record(self) -> None:
        """Pass over everything up to the next record, or to the end."""
        while data := self.peek(BLOCK_BYTES):
            found = _NEXT.search(data, 1)
            if found:
                self._held = self._held[found.end() :]
                return
            self._held = self._held[max(1, len(data) - _LONGEST_START) :]


def _parsed(head: bytes) -> dict[str, str]:
    """Headers by lower-case name; the first of several of a name. Lines that go on are joined."""
    headers: dict[str, str] = {}
    name = ""
    for raw in head.decode("utf-8", "replace").splitlines()[1:]:
        if raw[:1] in (" ", "\t") and name:
            headers[name] += " " + raw.strip()
            continue
        name, _, value = raw.partition(":")
        name = name.strip().lower()
        headers.setdefault(name, value.strip())
    return headers
