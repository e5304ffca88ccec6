"""The items of benchmarks as texts, at rest: what a model is asked and what it should answer, a row an item."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.errors import DataError
from storage.source_hashes import hash_files
from tasks.collect.discover import RECORD_FORMATS, TEXT_FORMATS, discover, kind_of, where_in
from tasks.collect.readers import field_of, read_records
from tasks.collect.records import BadRecord, Reading, Record
from tasks.decontaminate.config import ItemsFile

FORMATS = TEXT_FORMATS + RECORD_FORMATS
LONGEST_BYTES = 1 << 26  # of one item
ITEMS_SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),  # a digest of what it says, as evaluation knows it
        pa.field("text", pa.string(), nullable=False),
    ]
)
Row = dict[str, Any]


def item_row(benchmark: str, item: str, text: str) -> Row:
    """A row of ITEMS_SCHEMA; half characters, which JSON may hold, become question marks."""
    return {"benchmark": benchmark, "item": item, "text": text.encode(errors="replace").decode()}


def observe_items(files: Iterable[ItemsFile]) -> dict[str, str]:
    """File -> digest, by the name of the entry: another place of equal files changes nothing."""
    return {
        f"items/{entry.name}/{file.name}": file.digest
        for number, entry in enumerate(files)
        for file in hash_files(discover(entry.path, _option(number), FORMATS))
    }


def items_of_files(files: Iterable[ItemsFile]) -> Iterator[Row]:
    """The items of files of the user's, in order; DataError for a record that is none, with its file and line."""
    for number, entry in enumerate(files):
        option, count = _option(number), 0
        reading = Reading(entry.text_fields, LONGEST_BYTES)
        with tempfile.TemporaryDirectory() as scratch:
            for name, path in discover(entry.path, option, FORMATS):
                kind = kind_of(name, FORMATS)
                assert kind is not None, name
                for record in read_records(path, kind, reading, Path(scratch)):
                    text = _text_of(record, entry, f"{option}: {where_in(name, record.line)}", kind.format)
                    if text.strip():
                        count += 1
                        yield item_row(entry.name, hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32], text)
        if not count:
            raise DataError(f"{option}: {entry.path}: holds no item; name other files or text_fields")


def _text_of(record: Record | BadRecord, entry: ItemsFile, where: str, form: str) -> str:
    if isinstance(record, BadRecord):
        raise DataError(f"{where}: {record.reason}: fix it or leave it out: an item that is not read is not found")
    names = entry.text_fields[:1] if form in TEXT_FORMATS else entry.text_fields
    return "\n".join(_field(record, name, where) for name in names)


def _field(record: Record, name: str, where: str) -> str:
    try:
        value = field_of(record.fields, name)
    except KeyError:
        has = ", ".join(map(str, record.fields))
        raise DataError(f"{where}: no field {name!r} (it has: {has}); set text_fields of this entry") from None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    if not isinstance(value, (str, int, float)):
        raise DataError(f"{where}: field {name!r} is not text but {type(value).__name__}")
    return str(value)


def _option(number: int) -> str:
    return f"decontaminate.files[{number}].path"
