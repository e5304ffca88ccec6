"""What readers share: a record, good or bad, how a file is to be read, and the file as text or lines."""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.collect.discover import Kind
from tasks.collect.encodings import ASK, AUTO, UNSTATED, UTF8, beginning, decoded, guess
from tasks.collect.unpack import MAX_WINDOW_BYTES, is_packed, read_blocks

BOM = codecs.BOM_UTF8
EXCERPT_CHARACTERS = 120
RAW_LIMIT = 4  # a raw record may have this many times the bytes of the longest document: escapes, other fields


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record: its line in the file (1 is the first; of Parquet, its row) and its fields."""

    line: int
    fields: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)  # for the document's metadata


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be read: its line, why, and how it begins."""

    line: int
    reason: str
    excerpt: str = ""
    fields: tuple[str, ...] = field(default=())  # what the file has, where the wanted field is missing
    rest_lost: bool = False  # nothing after it in the file could be read: how much that is, nobody knows


def excerpt(raw: bytes | str) -> str:
    """The beginning of a record for the ledger, on one line.

    Not `clipped`: a rule of the data. The ledger holds characters of the record alone, no mark where they end, and
    little of a long record is decoded.
    """
    if isinstance(raw, bytes):
        raw = raw[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    raw = raw[: 2 * EXCERPT_CHARACTERS].encode("utf-8", "replace").decode()
    return " ".join(raw.split())[:EXCERPT_CHARACTERS]


def too_long(limit: int) -> str:
    """The reason for a raw record that was skipped."""
    return f"the record has more than {limit} bytes"


def read_lines(blocks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their number and line end; None for one of more than `limit` bytes. A BOM at the start is dropped.

    The last, unfinished line of a stream that breaks is not yielded: BrokenStream passes through.
    """
    number, length = 1, 0
    pieces: list[bytes] = []  # of the line under way; empty while a long one is skipped
    start = True
    for block in blocks:
        if start:
            block, start = block.removeprefix(BOM), False
        *ends, rest = block.split(b"\n")
        for end in ends:
            length += len(end)
            yield number, (b"".join((*pieces, end, b"\n")) if length <= limit else None)
            number, length = number + 1, 0
            pieces.clear()
        length += len(rest)
        if length > limit:
            pieces.clear()
        else:
            pieces.append(rest)
    if length:
        yield number, (b"".join(pieces) if length <= limit else None)


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: the fields that are asked for (a dot leads into one), and what a source says of them."""

    fields: tuple[str, ...]
    max_document_bytes: int
    encoding: str = AUTO
    delimiter: str = AUTO
    quote: str = AUTO
    max_window_bytes: int = MAX_WINDOW_BYTES
    separator: str | None = None  # between the documents of a text file

    @property
    def limit(self) -> int:
        """The longest raw record in bytes."""
        return RAW_LIMIT * self.max_document_bytes

    @property
    def columns(self) -> frozenset[str]:
        """The columns to read: each field itself, and the one that a dotted field is inside."""
        return frozenset(name for field in self.fields for name in (field, field.partition(".")[0]))


class TextFile:
    """A file of text, unpacked and brought to UTF-8; what had to be found out of it is counted in `found`."""

    def __init__(self, path: Path, kind: Kind, reading: Reading, found: Counter[str]) -> None:
        packing = kind.packing
        if packing and not is_packed(path, packing):
            found[f"not packed as .{packing}"] += 1
            packing = ""
        blocks = read_blocks(path, packing, max_window_bytes=reading.max_window_bytes)
        self.encoding, self._hint = reading.encoding, ""
        self.about: dict[str, Any] = {}  # for the metadata of its documents
        if reading.encoding in (AUTO, ASK):
            start, whole, blocks = beginning(blocks)
            guessed = guess(start, whole, ask=reading.encoding == ASK)
            self.encoding, self._hint = guessed.encoding, guessed.hint
            if self.encoding != UTF8:
                found[f"read as {self.encoding}{'' if guessed.sure else ' by a guess'}"] += 1
                self.about = {"encoding": self.encoding, **({} if guessed.sure else {"encoding_guessed": True})}
        self.blocks = decoded(blocks, self.encoding)

    @property
    def invalid(self) -> str:
        """What to say of bytes that are not of the encoding."""
        if self.encoding != UTF8:
            return f"invalid {self.encoding}"
        return f"invalid UTF-8 ({self._hint or UNSTATED})"
