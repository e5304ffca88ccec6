"""Texts with labels of the user's own for moderation (`collect.labels`): read one row at a time, and kept nowhere.

They are no text to learn to write from, so no other stage sees them. The rows are those of the form `labels` of
`collect.conversations` (forms.py), in the same formats but for archives.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from storage.documents import LABELS
from storage.source_hashes import hash_files
from storage.store.artifacts import StoredFile
from tasks.collect.config import OwnFiles
from tasks.collect.conversations import Unfit
from tasks.collect.discover import RECORD_FORMATS, discover, kind_of
from tasks.collect.encodings import AUTO
from tasks.collect.forms import Missing, StatedFields, read_form
from tasks.collect.readers import field_of, read_records
from tasks.collect.records import BadRecord, Reading, Record
from tasks.collect.texts import cleaned, group_of
from tasks.engine.config import LOCATION
from tasks.fetch.config import SourceName
from tasks.words import folded

MOST_TEXT_BYTES = 1 << 20
_Name = Annotated[str, StringConstraints(min_length=1)]
_UNSTATED = "not stated"


class LabelsSource(OwnFiles):
    """Texts with labels of your own: records of .jsonl, .json, .csv, .tsv or .parquet, plain or packed."""

    name: SourceName = Field("labels", description="Name of this source in ledgers and figures.")
    path: _Name = Field(description="A folder (with all below it), a glob, or one file.", json_schema_extra=LOCATION)
    text_field: _Name = Field(AUTO, description="Field with the text; auto: text, sentence, tweet, msg, ...")
    label_field: _Name = Field(AUTO, description="Field with the label; auto: label, class, category, ...")
    group_field: str | None = Field(
        None, description="Field that names a row's group; without it rows with one text make a group."
    )
    by: tuple[_Name, ...] = Field(
        (), max_length=8, description="Fields by whose values false alarms are counted, such as lang or source."
    )


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row: its text, its label, what must not be split, and the values of the fields `by`."""

    source: str
    file: str
    line: int
    text: str
    label: str
    group: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that could not be read, and why."""

    source: str
    file: str
    line: int
    reason: str


def label_files(source: LabelsSource, place: str) -> Sequence[StoredFile]:
    """The files of a source with their digests; `place` is where the recipe names it."""
    return hash_files(discover(source.path, f"{place}.path", RECORD_FORMATS))


def labelled_rows(source: LabelsSource, place: str) -> Iterator[Labelled | Unread]:
    """All rows of a source, in order of its files."""
    named = {"prompt_field", "input_field", "answer_field", "conversation_field"}
    fields = {"text_field": source.text_field, "label_field": source.label_field, "label_folders": False}
    stated = StatedFields.model_validate(fields | dict.fromkeys(named, AUTO))
    wanted = (*stated.columns, *source.by, *([source.group_field] if source.group_field else []))
    reading = Reading(wanted, MOST_TEXT_BYTES, source.encoding, source.delimiter, source.quote)
    for name, path in discover(source.path, f"{place}.path", RECORD_FORMATS):
        kind = kind_of(name)
        assert kind is not None
        with tempfile.TemporaryDirectory() as scratch:
            for record in read_records(path, kind, reading, Path(scratch), Counter()):
                yield _row(source, stated, name, record)


def _row(source: LabelsSource, stated: StatedFields, file: str, record: Record | BadRecord) -> Labelled | Unread:
    def unread(reason: str) -> Unread:
        return Unread(source.name, file, record.line, reason)

    if isinstance(record, BadRecord):
        return unread(record.reason)
    try:
        (row,) = read_form(record.fields, LABELS, stated).rows
    except Missing as missing:
        return unread(f"has none of the fields {', '.join(missing.args)}: set text_field and label_field")
    except Unfit as unfit:
        return unread(str(unfit))
    except RecursionError:
        return unread("the record is nested too deeply")
    text, label = (
        cleaned(record, name, one, MOST_TEXT_BYTES)
        for name, one in (("text", row.asked[0].content), ("label", row.answer))
    )
    if isinstance(text, BadRecord) or isinstance(label, BadRecord):
        return unread(text.reason if isinstance(text, BadRecord) else label.reason)  # type: ignore[union-attr]
    group = group_of(record, source.group_field) if source.group_field else _known_by(text)
    if group is None:
        return unread(f"has no field {source.group_field!r}")
    return Labelled(source.name, file, record.line, text, label, group, tuple(_values(source, record)))


def _values(source: LabelsSource, record: Record) -> Iterator[tuple[str, str]]:
    for name in source.by:
        try:
            value = field_of(record.fields, name)
        except KeyError:
            value = None
        yield name, str(value)[:64] if isinstance(value, str | int) and str(value).strip() else _UNSTATED


def _known_by(text: str) -> str:
    """The group of all rows with a text, without regard to case and spacing."""
    return hashlib.sha256(folded(text).encode()).hexdigest()[:16]
