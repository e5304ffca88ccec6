"""CSV files -> records: RFC 4180 with a header, quoted fields over several lines, strict about quotes.

A quote that is never closed would swallow every row after it. So a row that cannot be parsed costs its first line
only: reading starts again with the line after it.
"""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tasks.collect.discover import Kind
from tasks.collect.readers import BadRecord, Record, excerpt, read_lines, too_long
from tasks.collect.unpack import BrokenStream, read_blocks

_LONG_LINE = "\udbff"  # stands for a line that was passed over: no file can hold it


class _Lines:
    """Lines for csv.reader that can be put back. Bytes that are not UTF-8 become surrogates (PEP 383)."""

    def __init__(self, path: Path, kind: Kind, limit: int) -> None:
        self._source = read_lines(read_blocks(path, kind.packing), limit)
        self._waiting: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []  # since the last row
        self.broken: BrokenStream | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.taken.append(self._waiting.popleft() if self._waiting else self._read())
        return self.taken[-1][1]

    def _read(self) -> tuple[int, str]:
        try:
            number, raw = next(self._source)
        except BrokenStream as broken:
            self.broken = broken
            raise StopIteration from broken
        return number, _LONG_LINE + "\n" if raw is None else raw.decode("utf-8", "surrogateescape")

    def put_back_all_but_first(self) -> None:
        self._waiting.extendleft(reversed(self.taken[1:]))


def read_csv(path: Path, kind: Kind, limit: int) -> Iterator[Record | BadRecord]:
    """The rows of one .csv file as records; `limit` is the longest line and field in characters."""
    csv.field_size_limit(limit)
    lines = _Lines(path, kind, limit)
    rows = csv.reader(lines, strict=True)
    header: list[str] | None = None
    line = 0
    while True:
        lines.taken.clear()
        problem = ""
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            row, problem = [], f"malformed CSV ({error})"
            lines.put_back_all_but_first()
        line, raw = lines.taken[0]
        if not row and not problem:
            continue  # a blank line
        text = "".join(row)
        if _LONG_LINE in text:
            problem = too_long(limit)
        elif header is not None and not problem and len(row) != len(header):
            problem = f"the row has {len(row)} fields, the header {len(header)}"
        if header is None:
            if problem or not text.isprintable():
                yield BadRecord(line, f"the header cannot be read: {problem or 'it is not plain text'}", excerpt(raw))
                return
            header = row
        elif problem:
            yield BadRecord(line, problem, excerpt(raw))
        else:
            yield Record(line, dict(zip(header, row, strict=True)))
    if lines.broken:
        yield BadRecord(line + 1, str(lines.broken))
    elif header is None:
        yield BadRecord(1, "no record in the file")
