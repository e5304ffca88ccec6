"""The `files` source: records of the user's own files -> documents; how those of `conversations` are opened, too.

Cost: about 50 MB of text a CPU-second from JSON lines of 2 kB, packed with gzip or not.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from storage.documents import Document, document_id
from tasks.collect.archives import read_members
from tasks.collect.discover import ARCHIVES, DOCUMENT_FORMATS, RECORD_FORMATS, TEXT_FORMATS, Kind, kind_of
from tasks.collect.forms import StatedFields
from tasks.collect.jobs import FileJob
from tasks.collect.output import JobOutput, number_or_text
from tasks.collect.pages.config import PageConfig
from tasks.collect.pages.reader import PageReader
from tasks.collect.readers import field_of, read_records
from tasks.collect.records import BadRecord, Reading, Record, excerpt
from tasks.collect.repair import repair_unicode
from tasks.collect.text_parts import marks_in
from tasks.collect.texts import cleaned, encodes, group_of, number_of, without_field
from tasks.collect.unpack import BrokenStream
from tasks.engine.context import Summary

LISTS = ("manifest", "metadata")  # of a data set's files, which lie beside them


class ReadJob(FileJob):
    """One slice of a source."""

    text_field: str = Field("", description="Field with the text (documents).")
    separator: str | None = Field(None, description="What is between the documents of a text file.")
    form: StatedFields | None = Field(None, description="Which fields its source names (conversations).")
    group_field: str | None = Field(description="Field that names the group.")
    score_field: str | None = Field(None, description="Field with a number, for the metadata of documents.")
    encoding: str = Field(description="Encoding of the files, or auto.")
    delimiter: str = Field(description="What separates fields of .csv and .tsv, or auto.")
    quote: str = Field(description="What fields of .csv and .tsv are quoted with, or auto.")
    pages: PageConfig | None = Field(None, description="How pages are read, where the slice has some.")
    repair_unicode: bool = Field(False, description="Repair texts that were decoded wrongly.")

    @property
    def reading(self) -> Reading:
        """How the files are read: the texts first among the fields."""
        fields = (self.text_field, *(self.form.columns if self.form else ()), self.group_field, self.score_field)
        return Reading(
            fields=tuple(field for field in fields if field),
            max_document_bytes=self.max_document_bytes,
            encoding=self.encoding,
            delimiter=self.delimiter,
            quote=self.quote,
            max_window_bytes=self.max_window_bytes,
            separator=self.separator,
        )


def read_documents(job: ReadJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one slice of a `files` source."""
    with JobOutput(out, job.source, job.documents_per_shard) as output:
        for name, record in records_of(job, inputs, output, out):
            output.counts["read"] += 1
            made = _document(job, name, record) if isinstance(record, Record) else record
            if isinstance(made, BadRecord) and made.fields and _is_list(name):
                output.listed(name, made)
            elif isinstance(made, Document):
                if job.repair_unicode:
                    made = _repaired(job, made, output)
                _count_separators(job, name, made, output)
                output.document(made)
            elif made is None:
                output.empty(name, record.line, _called(record))
            else:
                output.bad(name, made)
    return output.summary()


def records_of(
    job: ReadJob, inputs: Mapping[str, Path], output: JobOutput, scratch: Path
) -> Iterator[tuple[str, Record | BadRecord]]:
    with PageReader(job.pages or PageConfig()) as pages:
        for name in job.names:
            for file in _files_in(job, name, inputs[name], output, scratch):
                if isinstance(file.kind, BadRecord):
                    yield file.name, file.kind
                    continue
                records = read_records(file.path, file.kind, job.reading, scratch, output.found, pages)
                for count, record in enumerate(records):
                    if isinstance(record, BadRecord) and record.rest_lost:
                        record = replace(record, reason=f"{record.reason}; {count:,} records were read before it")
                    yield file.name, record


@dataclass(frozen=True, slots=True)
class _File:
    """A file or a member of an archive: the name that documents have it by, where it is, how it is read or why not."""

    name: str
    path: Path
    kind: Kind | BadRecord


def _files_in(job: ReadJob, name: str, path: Path, output: JobOutput, scratch: Path) -> Iterator[_File]:
    """The file itself, or the members of an archive, each there until the next is asked for."""
    kind = kind_of(name)
    assert kind is not None, name
    if kind.format not in ARCHIVES:
        yield _File(name, path, kind)
        return
    formats = job.form.formats if job.form else (*TEXT_FORMATS, *DOCUMENT_FORMATS, *RECORD_FORMATS)
    count, before = 0, output.left_out.total
    try:
        for member in read_members(name, path, scratch, formats, job.max_window_bytes, output.left_out):
            fault = BadRecord(1, member.fault) if member.fault else member.kind
            yield _File(f"{name}/{member.name}", member.path, fault)
            count += 1
    except BrokenStream as broken:
        reason = f"{broken}; {count:,} members were read before it"
        yield _File(name, path, BadRecord(1, reason, rest_lost=True))
        return
    if not count and output.left_out.total == before:
        yield _File(name, path, BadRecord(1, "empty archive"))


def _document(job: ReadJob, name: str, record: Record) -> Document | BadRecord | None:
    """The document of a record, or why there is none; None for a record without text, which is not a mistake."""
    if _is_blank(record, job.text_field):
        return None
    text = _text_of(job, record, job.text_field)
    if isinstance(text, BadRecord):
        return text
    one_a_file = _is_one(job, name)
    if one_a_file:
        group: str | None = name
    elif job.group_field:
        group = group_of(record, job.group_field)
    else:
        group = f"{name}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if group is None:
        return without_field(record, job.group_field or "")
    metadata = {"file": name, "line": record.line, **record.about}
    score = number_of(record, job.score_field) if job.score_field else None
    if score is not None:
        metadata["score"] = score
    identity = number_or_text(record.fields.get("id"))
    if identity is not None and encodes(identity):
        metadata["id"] = identity
    return Document(
        id=document_id(job.source, f"{name}\0{group}" if job.group_field else group, text),
        text=text,
        source=job.source,
        group=group,
        split=job.splits.of(group, "" if job.group_field else name),
        url=_said(record, "url"),
        title=_said(record, "title") or (Path(name).name.partition(".")[0] if one_a_file else ""),
        lang=_said(record, "lang", "language") or job.lang,
        license=_said(record, "license", "licence") or job.license,
        metadata=metadata,
    )


def _count_separators(job: ReadJob, name: str, document: Document, output: JobOutput) -> None:
    """How often a mark that is known as a separator occurs in the whole of a text file."""
    if _is_one(job, name) and (found := marks_in(document.text)):
        output.counts[f"marks {found[0]}"] += found[1]


def _is_one(job: ReadJob, name: str) -> bool:
    """Whether a file is one document."""
    kind = kind_of(name)
    assert kind is not None, name
    return kind.format in DOCUMENT_FORMATS or (kind.format not in RECORD_FORMATS and not job.separator)


def _is_list(name: str) -> bool:
    """Whether a file of records is named as what lists other files and holds no text itself."""
    return re.split(r"[-_]", Path(name).name.partition(".")[0].lower())[-1] in LISTS


def _repaired(job: ReadJob, document: Document, output: JobOutput) -> Document:
    text = repair_unicode(document.text)
    if text == document.text:
        return document
    output.counts["repaired"] += 1
    identity = document_id(job.source, document.group, text)
    return replace(document, id=identity, text=text, metadata=document.metadata | {"repaired": True})


def _text_of(job: ReadJob, record: Record, field: str) -> str | BadRecord:
    """The text of a field, cleaned, or why it cannot be used."""
    try:
        text = field_of(record.fields, field)
    except KeyError:
        return without_field(record, field)
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return BadRecord(record.line, f"field {field!r} is not text but {kind}", excerpt(str(text)[:500]))
    return cleaned(record, field, text, job.max_document_bytes)


def _is_blank(record: Record, field: str) -> bool:
    """Whether the field is there and holds nothing: rows between paragraphs, a null."""
    try:
        text = field_of(record.fields, field)
    except KeyError:
        return False
    return text is None or (isinstance(text, str) and not text.strip("\ufeff \t\n\r\f\v\xa0"))


def _called(record: Record | BadRecord) -> str:
    """The address or title of a record; empty where it has none."""
    return _said(record, "url", "title") if isinstance(record, Record) else ""


def _said(record: Record, *names: str) -> str:
    """The first of some optional fields that the record fills with text."""
    for name in names:
        value = record.fields.get(name)
        if isinstance(value, str) and value and encodes(value):
            return value
    return ""
