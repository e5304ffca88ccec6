"""Files -> records, one at a time, in bounded memory. A bad record costs itself and never its neighbours.

`read_records` yields a `Record` for each record that could be parsed and a `BadRecord` for each that could not:
bytes are read, cut into records, and each is decoded alone. Where a file is cut or damaged, what is whole before the
break has been yielded and the break is one `BadRecord`. A text file is one record, of the field `text_field`.
"""

import codecs
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tasks.collect.discover import TEXT_FORMATS, Kind
from tasks.collect.text_parts import split_parts
from tasks.collect.unpack import BrokenStream, read_blocks

BOM = codecs.BOM_UTF8
RAW_LIMIT = 4  # a raw record may have this many times the bytes of the longest document: escapes, other fields
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


def read_records(
    path: Path, kind: Kind, text_field: str, max_document_bytes: int, scratch: Path, separator: str | None = None
) -> Iterator[Record | BadRecord]:
    """The records of one file. `scratch` is a folder for an unpacked copy where the format needs one (Parquet).

    With a `separator` the texts between separators are the records of a text file.
    """
    limit = RAW_LIMIT * max_document_bytes
    if path.stat().st_size == 0:
        yield BadRecord(1, "empty file")
    elif kind.format in TEXT_FORMATS and separator:
        yield from _read_parts(path, kind, text_field, limit, separator)
    elif kind.format in TEXT_FORMATS:
        yield from _read_text(path, kind, text_field, limit)
    elif kind.format == "jsonl":
        yield from _read_lines(path, kind, limit)
    elif kind.format == "json":
        from tasks.collect.json_arrays import read_json

        yield from read_json(path, kind, limit)
    elif kind.format == "csv":
        from tasks.collect.csv_rows import read_csv

        yield from read_csv(path, kind, limit)
    else:
        yield from _read_parquet(path, kind, scratch)


def excerpt(raw: bytes | str) -> str:
    """The beginning of a record for the ledger, on one line."""
    if isinstance(raw, bytes):
        raw = raw[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    raw = raw[: 2 * EXCERPT_CHARACTERS].encode("utf-8", "replace").decode()
    return " ".join(raw.split())[:EXCERPT_CHARACTERS]


def too_long(limit: int) -> str:
    """The reason for a raw record that was passed over."""
    return f"the record has more than {limit} bytes"


def read_lines(blocks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their number and line end; None for one of more than `limit` bytes. A BOM at the start is dropped.

    The last, unfinished line of a stream that breaks is not yielded: BrokenStream passes through.
    """
    number, length = 1, 0
    pieces: list[bytes] = []  # of the line under way; empty while a long one is passed over
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


def _read_text(path: Path, kind: Kind, text_field: str, limit: int) -> Iterator[Record | BadRecord]:
    pieces: list[bytes] = []
    length = 0
    try:
        for block in read_blocks(path, kind.packing):
            length += len(block)
            if length > limit:
                yield BadRecord(1, too_long(limit), excerpt(pieces[0] if pieces else block))
                return
            pieces.append(block)
    except BrokenStream as broken:
        yield BadRecord(1, str(broken), excerpt(pieces[0] if pieces else b""))
        return
    data = b"".join(pieces)
    try:
        yield Record(1, {text_field: data.decode("utf-8")})
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = " (it looks like UTF-16)" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
        yield BadRecord(line, f"invalid UTF-8{hint}", excerpt(data[max(0, error.start - 40) :]))


def _read_parts(path: Path, kind: Kind, text_field: str, limit: int, separator: str) -> Iterator[Record | BadRecord]:
    line = 1
    try:
        for line, raw in split_parts(read_blocks(path, kind.packing), separator, limit):
            if raw is None:
                yield BadRecord(line, too_long(limit))
                continue
            try:
                yield Record(line, {text_field: raw.decode("utf-8")})
            except UnicodeDecodeError:
                yield BadRecord(line, "invalid UTF-8", excerpt(raw))
    except BrokenStream as broken:
        yield BadRecord(line, str(broken))


def _read_lines(path: Path, kind: Kind, limit: int) -> Iterator[Record | BadRecord]:
    number = 0
    try:
        for number, raw in read_lines(read_blocks(path, kind.packing), limit):
            if raw is None:
                yield BadRecord(number, too_long(limit))
            elif not raw.isspace():
                yield _parse_line(number, raw)
    except BrokenStream as broken:
        yield BadRecord(number + 1, str(broken))


def _parse_line(number: int, raw: bytes) -> Record | BadRecord:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return BadRecord(number, "invalid UTF-8", excerpt(raw))
    except json.JSONDecodeError as error:
        return BadRecord(number, f"malformed JSON ({error.msg}, column {error.colno})", excerpt(raw))
    except (ValueError, RecursionError) as error:
        return BadRecord(number, f"malformed JSON ({type(error).__name__})", excerpt(raw))
    if not isinstance(value, dict):
        return BadRecord(number, "not a JSON object", excerpt(raw))
    return Record(number, value)


def _read_parquet(path: Path, kind: Kind, scratch: Path) -> Iterator[Record | BadRecord]:
    if not kind.packing:
        with path.open("rb") as file:
            yield from _rows(file)
        return
    with tempfile.TemporaryFile(dir=scratch) as copy:
        try:
            for block in read_blocks(path, kind.packing, "parquet"):
                copy.write(block)
        except BrokenStream as broken:
            yield BadRecord(1, str(broken))
            return
        copy.seek(0)
        yield from _rows(copy)


def _rows(file: BinaryIO) -> Iterator[Record | BadRecord]:
    """Rows of a Parquet file. Strings come as bytes, so that one that is not UTF-8 spoils its own row only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(file)
        for batch in table.iter_batches(batch_size=256):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield _decoded(number, dict(zip(batch.schema.names, values, strict=True)))
    except (pa.ArrowException, OSError) as error:
        yield BadRecord(number + 1, f"not readable as Parquet ({str(error).splitlines()[0][:100]})")


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    known = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_floating,
    )
    if not any(is_known(column.type) for is_known in known):
        return [column.type] * len(column)  # no field that is used is nested (slow) or a date (can be out of range)
    return column.to_pylist()


def _decoded(number: int, row: dict[str, Any]) -> Record | BadRecord:
    for name, value in row.items():
        if isinstance(value, bytes):
            try:
                row[name] = value.decode("utf-8")
            except UnicodeDecodeError:
                return BadRecord(number, f"invalid UTF-8 in column {name}", excerpt(value))
    return Record(number, row)
