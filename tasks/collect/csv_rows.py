"""CSV files -> records: RFC 4180 with a header, quoted fields over several lines, strict about quotes.

What separates and what quotes is found in the beginning of the file where the source does not say: the separator by
which the header has the wanted columns and the rows as many fields as the header; the quote by fields that stand in a
pair of them whole. Without such a field there is none, as in most tab separated files.

A quote that is never closed would swallow every row after it. So a row that cannot be parsed costs its first line
only: reading starts again with the line after it.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.collect.discover import Kind
from tasks.collect.encodings import AUTO, beginning
from tasks.collect.records import BadRecord, Reading, Record, TextFile, excerpt, read_lines, too_long
from tasks.collect.unpack import BrokenStream

DELIMITERS = (",", ";", "\t", "|")  # tried, the usual ones first
QUOTES = ('"', "'")
SAMPLE_ROWS = 200
SAMPLE_BYTES = 64 * 1024  # of the beginning of a file: what the dialect is found in

_LONG_LINE = "\udbff"  # in place of a line that was skipped: no file can hold it


class _Lines:
    """Lines for csv.reader that can be put back. Bytes that are not UTF-8 become surrogates (PEP 383)."""

    def __init__(self, blocks: Iterator[bytes], limit: int) -> None:
        self._source = read_lines(blocks, limit)
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


@dataclass(frozen=True, slots=True)
class Dialect:
    """One character each; no quote is the empty string."""

    delimiter: str
    quote: str

    def rows(self, lines: Iterator[str]) -> "Iterator[list[str]]":
        """The fields of each line; raises csv.Error for a quote that does not end."""
        if self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)


def find_dialect(sample: str, kind: Kind, reading: Reading) -> Dialect:
    """The dialect of the beginning of a file, except what the source sets."""
    delimiters = DELIMITERS if reading.delimiter == AUTO else (_character(reading.delimiter),)
    if reading.delimiter == AUTO and kind.format == "tsv":
        delimiters = ("\t",)
    dialects = [Dialect(delimiter, _quote(sample, delimiter, reading.quote)) for delimiter in delimiters]
    if len(dialects) == 1:
        return dialects[0]
    return max(dialects, key=lambda dialect: _fit(sample, dialect, reading))  # of equals the first


def read_csv(text: TextFile, kind: Kind, reading: Reading, found: Counter[str]) -> Iterator[Record | BadRecord]:
    """The rows of one file as records."""
    csv.field_size_limit(reading.limit)
    start, _, blocks = beginning(text.blocks)
    dialect = find_dialect(start[:SAMPLE_BYTES].decode("utf-8", "replace").removeprefix("\ufeff"), kind, reading)
    usual = Dialect("\t" if kind.format == "tsv" else ",", '"')
    if (dialect.delimiter, dialect.quote or '"') != (usual.delimiter, usual.quote):
        found[f"read with fields separated by {dialect.delimiter!r} and quoted by {dialect.quote or 'none'}"] += 1
    yield from _records(_Lines(blocks, reading.limit), dialect, reading.limit)


def _records(lines: _Lines, dialect: Dialect, limit: int) -> Iterator[Record | BadRecord]:
    rows = dialect.rows(lines)
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
            row, problem = [], f"malformed CSV ({error}): set `quote` or `delimiter` of this source"
            lines.put_back_all_but_first()
        line, raw = lines.taken[0]
        if not row and not problem:
            continue  # a blank line
        whole = "".join(row)
        if _LONG_LINE in whole:
            problem = too_long(limit)
        elif header is not None and not problem and len(row) != len(header):
            problem = f"the row has {len(row)} fields, the header {len(header)}"
        if header is None:
            if problem or not whole.isprintable():
                problem = f"the header cannot be read: {problem or 'it is not plain text'}"
                yield BadRecord(line, problem, excerpt(raw), rest_lost=True)
                return
            header = row
        elif problem:
            yield BadRecord(line, problem, excerpt(raw))
        else:
            yield Record(line, dict(zip(header, row, strict=True)))
    if lines.broken:
        yield BadRecord(line + 1, str(lines.broken), rest_lost=True)
    elif header is None:
        yield BadRecord(1, "no record in the file")


def _character(setting: str) -> str:
    return {"tab": "\t", "none": ""}.get(setting, setting)


def _quote(sample: str, delimiter: str, setting: str) -> str:
    """What quotes the fields: the first mark with which a field begins and ends; none where there are marks but none
    that does, and the usual one where there are no marks."""
    if setting != AUTO:
        return _character(setting)
    edge = re.escape(delimiter)
    best = {
        mark: len(
            re.findall(rf"(?:^|{edge}){mark}(?:[^{mark}]|{mark}{mark})*{mark}(?={edge}|\r?$)", sample, re.MULTILINE)
        )
        for mark in QUOTES
    }
    if best['"'] or ('"' not in sample and not best["'"]):
        return '"'
    lines = max(1, sample.count("\n") - 1)
    return "'" if best["'"] >= lines else ""


def _fit(sample: str, dialect: Dialect, reading: Reading) -> tuple[int, float]:
    """How many wanted columns the header has, and the share of rows with as many fields as it, if more than one."""
    counts: list[int] = []
    header: list[str] = []
    rows = dialect.rows(iter(sample.splitlines(keepends=True)))
    while len(counts) < SAMPLE_ROWS:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error:
            counts.append(0)
            continue
        if row and not header:
            header = row
        elif row:
            counts.append(len(row))
    wanted = sum(name in header for name in reading.columns)
    good = sum(count == len(header) for count in counts)
    return wanted, good / len(counts) if counts and len(header) > 1 else 0.0
