"""Texts of the user's own by which the filter judges others: files that the recipe names, one record at a time.

Files are those of `collect.files` that hold text or records; a text file is one text. A record that cannot be read is
an error: what judges a corpus is to be as its user thinks it is.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from storage.errors import DataError
from storage.source_hashes import hash_files
from storage.store.artifacts import StoredFile
from tasks.collect.discover import RECORD_FORMATS, TEXT_FORMATS, discover, kind_of, where_in
from tasks.collect.readers import field_of, read_records
from tasks.collect.records import BadRecord, Reading

FORMATS = TEXT_FORMATS + RECORD_FORMATS
LONGEST_BYTES = 1 << 26  # of a record


def given_files(paths: Sequence[str], option: str) -> dict[str, StoredFile]:
    """`NUMBER/NAME` -> each file of these paths with its digest; DataError where there is none."""
    if not paths:
        raise DataError(f"{option}: names no file: give files, folders or globs of texts")
    return {
        f"{number}/{file.name}": file
        for number, path in enumerate(paths)
        for file in hash_files(discover(path, f"{option}.{number}", FORMATS))
    }


def texts_of_files(files: Mapping[str, Path], text_field: str, option: str) -> Iterator[str]:
    """The texts of files, path after path as the recipe has them; DataError with file and line for a record without."""
    reading = Reading((text_field,), LONGEST_BYTES)
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(files, key=_place):
            path = files[name]
            kind = kind_of(name, FORMATS)
            assert kind is not None, name
            for record in read_records(path, kind, reading, Path(scratch)):
                where = f"{option}: {where_in(name, record.line)}"
                if isinstance(record, BadRecord):
                    raise DataError(f"{where}: {record.reason}: fix it or leave it out")
                try:
                    text = field_of(record.fields, text_field)
                except KeyError:
                    has = ", ".join(map(str, record.fields))
                    raise DataError(f"{where}: no field {text_field!r} (it has: {has}); set text_field") from None
                if not isinstance(text, str):
                    raise DataError(f"{where}: field {text_field!r} is not text but {type(text).__name__}")
                yield text.encode(errors="replace").decode()


def _place(name: str) -> tuple[int, str]:
    number, _, file = name.partition("/")
    return int(number), file
