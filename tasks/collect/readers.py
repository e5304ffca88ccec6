"""Files -> records, one at a time, in bounded memory. A bad record costs itself and never its neighbours.

`read_records` yields a `Record` for each record that could be parsed and a `BadRecord` for each that could not:
bytes are brought to UTF-8 (encodings.py), cut into records, and each is decoded alone. Where a file is cut or damaged,
what is whole before the break has been yielded and the break is one `BadRecord` with `rest_lost`, since nobody knows
how much is gone. A text file is one record, of the first of the fields that are asked for.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from tasks.collect.discover import DOCUMENT_FORMATS, TEXT_FORMATS, Kind
from tasks.collect.json_faults import json_fault
from tasks.collect.pages.reader import Page, PageReader
from tasks.collect.pages.reasons import WITHOUT_TEXT
from tasks.collect.records import BadRecord, Reading, Record, TextFile, excerpt, read_lines, too_long
from tasks.collect.text_parts import split_parts
from tasks.collect.unpack import BrokenStream, is_packed, read_blocks

_HELD_IN = {"pdf": "pdf", "epub": "zip", "docx": "zip"}  # what files of these endings look like


def read_records(
    path: Path,
    kind: Kind,
    reading: Reading,
    scratch: Path,
    found: Counter[str] | None = None,
    pages: PageReader | None = None,
) -> Iterator[Record | BadRecord]:
    """The records of one file. `scratch` is a folder for an unpacked copy where the format needs one (Parquet).

    `found` counts what had to be found out: encodings, separators, packings that are not what their ending says.
    `pages` reads the files of DOCUMENT_FORMATS.
    """
    found = Counter() if found is None else found
    if path.stat().st_size == 0:
        yield BadRecord(1, "empty file")
    elif kind.format == "parquet":
        yield from _read_parquet(path, kind, reading, scratch, found)
    elif kind.format in DOCUMENT_FORMATS:
        assert pages is not None, path
        yield _read_document(path, kind, reading, pages, found)
    else:
        text = TextFile(path, kind, reading, found)
        for record in _read_from(text, kind, reading, found):
            yield replace(record, about=text.about) if text.about and isinstance(record, Record) else record


def _read_from(text: TextFile, kind: Kind, reading: Reading, found: Counter[str]) -> Iterator[Record | BadRecord]:
    if kind.format in TEXT_FORMATS:
        yield from _read_parts(text, reading) if reading.separator else _read_text(text, reading)
    elif kind.format == "jsonl":
        yield from _read_lines(text, reading.limit)
    elif kind.format == "json":
        from tasks.collect.json_arrays import read_json

        yield from read_json(text, reading.limit)
    else:
        from tasks.collect.csv_rows import read_csv

        yield from read_csv(text, kind, reading, found)


def field_of(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field; `body.text` is the field `text` of `body`, where no field has that name, `turns.0` the
    first of a list. KeyError where there is none."""
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(name)
    return value


def _read_text(text: TextFile, reading: Reading) -> Iterator[Record | BadRecord]:
    pieces: list[bytes] = []
    length = 0
    try:
        for block in text.blocks:
            length += len(block)
            if length > reading.limit:
                yield BadRecord(1, too_long(reading.limit), excerpt(pieces[0] if pieces else block))
                return
            pieces.append(block)
    except BrokenStream as broken:
        yield BadRecord(1, str(broken), excerpt(pieces[0] if pieces else b""), rest_lost=True)
        return
    data = b"".join(pieces)
    try:
        yield Record(1, {reading.fields[0]: data.decode("utf-8")})
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield BadRecord(line, text.invalid, excerpt(data[max(0, error.start - 40) :]))


def _read_document(
    path: Path, kind: Kind, reading: Reading, pages: PageReader, found: Counter[str]
) -> Record | BadRecord:
    """The text of a page, book or e-mail, by the reader of pages."""
    packing, contents = kind.packing, _HELD_IN.get(kind.format, "")
    if packing and not is_packed(path, packing, contents):
        found[f"not packed as .{packing}"] += 1
        packing = ""
    pieces: list[bytes] = []
    length = 0
    try:
        for block in read_blocks(path, packing, contents, reading.max_window_bytes):
            length += len(block)
            if length > pages.limit(kind.format):
                return BadRecord(1, f"the file has more than {pages.limit(kind.format):,} bytes")
            pieces.append(block)
    except BrokenStream as broken:
        return BadRecord(1, str(broken), rest_lost=bool(packing))
    body = b"".join(pieces)
    page = pages.read_file(kind.format, body, encoding=reading.encoding)
    if page in WITHOUT_TEXT:
        return Record(1, {reading.fields[0]: ""})
    if not isinstance(page, Page):
        return BadRecord(1, page, excerpt(body) if not contents else "")
    if page.about.get("encoding_guessed"):
        found[f"read as {page.about['encoding']} by a guess"] += 1
    if "damaged" in page.about:
        found["damaged XML"] += 1
    said = {name: getattr(page, name) for name in ("title", "lang", "license", "url")}
    about = {**page.about, **({"date": page.date} if page.date else {})}
    return Record(1, {**said, reading.fields[0]: page.text}, about)


def _read_parts(text: TextFile, reading: Reading) -> Iterator[Record | BadRecord]:
    assert reading.separator is not None
    line = 1
    try:
        for line, raw in split_parts(text.blocks, reading.separator, reading.limit):
            if raw is None:
                yield BadRecord(line, too_long(reading.limit))
                continue
            try:
                yield Record(line, {reading.fields[0]: raw.decode("utf-8")})
            except UnicodeDecodeError:
                yield BadRecord(line, text.invalid, excerpt(raw))
    except BrokenStream as broken:
        yield BadRecord(line, str(broken), rest_lost=True)


def _read_lines(text: TextFile, limit: int) -> Iterator[Record | BadRecord]:
    number = 0
    try:
        for number, raw in read_lines(text.blocks, limit):
            if raw is None:
                yield BadRecord(number, too_long(limit))
            elif not raw.isspace():
                yield _parse_line(number, raw, text.invalid)
    except BrokenStream as broken:
        yield BadRecord(number + 1, str(broken), rest_lost=True)


def _parse_line(number: int, raw: bytes, invalid: str) -> Record | BadRecord:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return BadRecord(number, invalid, excerpt(raw))
    except json.JSONDecodeError as error:
        return BadRecord(number, f"malformed JSON at column {error.colno}: {json_fault(error)}", excerpt(raw))
    except (ValueError, RecursionError) as error:
        return BadRecord(number, f"malformed JSON ({type(error).__name__})", excerpt(raw))
    if not isinstance(value, dict):
        return BadRecord(number, "not a JSON object", excerpt(raw))
    return Record(number, value)


def _read_parquet(
    path: Path, kind: Kind, reading: Reading, scratch: Path, found: Counter[str]
) -> Iterator[Record | BadRecord]:
    if kind.packing and not is_packed(path, kind.packing, "parquet"):
        found[f"not packed as .{kind.packing}"] += 1
    elif kind.packing:
        with tempfile.TemporaryFile(dir=scratch) as copy:
            try:
                for block in read_blocks(path, kind.packing, "parquet", reading.max_window_bytes):
                    copy.write(block)
            except BrokenStream as broken:
                yield BadRecord(1, str(broken), rest_lost=True)
                return
            copy.seek(0)
            yield from _rows(copy, reading.columns)
        return
    with path.open("rb") as file:
        yield from _rows(file, reading.columns)


def _rows(file: BinaryIO, columns: frozenset[str]) -> Iterator[Record | BadRecord]:
    """Rows of a Parquet file. Strings come as bytes, so that one that is not UTF-8 spoils its own row only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(file)
        for batch in table.iter_batches(batch_size=256):
            names = batch.schema.names
            values = [_values(column, name in columns) for name, column in zip(names, batch.columns, strict=True)]
            for row in zip(*values, strict=True):
                number += 1
                yield _decoded(number, dict(zip(names, row, strict=True)))
    except (pa.ArrowException, OSError) as error:
        reason = f"not readable as Parquet ({str(error).splitlines()[0][:100]})"
        yield BadRecord(number + 1, reason, rest_lost=True)


def _values(column: Any, wanted: bool) -> list[Any]:
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
    if any(is_known(column.type) for is_known in known):
        return column.to_pylist()
    if not wanted or not pa.types.is_nested(column.type):
        return [column.type] * len(column)  # nobody asks for it: nested ones are slow, a date can be out of range
    return [_nested(value) for value in column]


def _nested(value: Any) -> Any:
    """A struct or list as Python has it; bytes, which spoil their own row, where it holds some that are not UTF-8."""
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error.object
    except (ValueError, OverflowError):
        return value.type


def _decoded(number: int, row: dict[str, Any]) -> Record | BadRecord:
    for name, value in row.items():
        if isinstance(value, bytes):
            try:
                row[name] = value.decode("utf-8")
            except UnicodeDecodeError:
                return BadRecord(number, f"invalid UTF-8 in column {name}", excerpt(value))
    return Record(number, row)
