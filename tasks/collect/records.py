"""Records: what a reader yields one at a time, good or bad, and the lines that they are read from."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

BOM = codecs.BOM_UTF8

EXCERPT_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record: its line in the file (1 is the first; of Parquet, its row) and its fields."""

    line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be read: its line, why, and how it begins."""

    line: int
    reason: str
    excerpt: str = ""
    fields: tuple[str, ...] = field(default=())  # what the file has, where the wanted field is missing
    rest_lost: bool = False  # nothing after it in the file could be read: how much that is, nobody knows


def excerpt(raw: bytes | str) -> str:
    """The beginning of a record for the ledger, on one line."""
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
