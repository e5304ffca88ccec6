"""The `files` and `pairs` sources: records of the user's own files -> documents or pairs.

Cost: about 50 MB of text a CPU-second from JSON lines of 2 kB, packed with gzip or not.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from storage.documents import Document, document_id
from tasks.collect.discover import TEXT_FORMATS, kind_of
from tasks.collect.output import JobOutput, Pair, Splits, number_or_text
from tasks.collect.readers import BadRecord, Record, excerpt, read_records
from tasks.collect.text_parts import marks_in
from tasks.config import StageConfig
from tasks.context import Summary


class ReadJob(StageConfig):
    """One slice of a source. No path stands here: a moved folder costs nothing."""

    source: str = Field(description="Name of the source.")
    names: tuple[str, ...] = Field(description="Names of the files, in order; also the roles of the job's inputs.")
    text_field: str = Field("", description="Field with the text (documents).")
    separator: str | None = Field(None, description="What stands between the documents of a text file.")
    prompt_field: str = Field("", description="Field with the prompt (pairs).")
    answer_field: str = Field("", description="Field with the answer (pairs).")
    group_field: str | None = Field(description="Field that names the group.")
    license: str = Field("", description="Licence where a record does not say.")
    lang: str = Field("", description="Language where a record does not say.")
    splits: Splits = Field(description="What is held out.")
    documents_per_shard: int = Field(description="Documents in a shard, at most.")
    max_document_bytes: int = Field(description="Longest document in bytes.")


def read_documents(job: ReadJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one slice of a `files` source."""
    with JobOutput(out, job.source, job.documents_per_shard) as output:
        for name, record in _records(job, inputs, job.text_field, out):
            output.counts["read"] += 1
            made = _document(job, name, record) if isinstance(record, Record) else record
            if isinstance(made, Document):
                _count_separators(job, name, made, output)
                output.document(made)
            else:
                output.bad(name, made)
    return output.summary()


def read_pairs(job: ReadJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one slice of a `pairs` source."""
    with JobOutput(out, job.source, job.documents_per_shard) as output:
        for name, record in _records(job, inputs, job.prompt_field, out):
            output.counts["read"] += 1
            made = _pair(job, name, record) if isinstance(record, Record) else record
            if isinstance(made, Pair):
                output.pair(made)
                output.counts["kept"] += 1
            else:
                output.bad(name, made)
    return output.summary()


def _records(
    job: ReadJob, inputs: Mapping[str, Path], text_field: str, scratch: Path
) -> Iterator[tuple[str, Record | BadRecord]]:
    for name in job.names:
        kind = kind_of(name)
        assert kind is not None, name
        for record in read_records(inputs[name], kind, text_field, job.max_document_bytes, scratch, job.separator):
            yield name, record


def _document(job: ReadJob, name: str, record: Record) -> Document | BadRecord:
    text = _text_of(job, record, job.text_field)
    if isinstance(text, BadRecord):
        return text
    one_a_file = _is_text(name) and not job.separator
    if one_a_file:
        group: str | None = name
    elif job.group_field:
        group = _group_of(record, job.group_field)
    else:
        group = f"{name}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if group is None:
        return _without_field(record, job.group_field or "")
    metadata = {"file": name, "line": record.line}
    identity = number_or_text(record.fields.get("id"))
    if identity is not None and _encodes(identity):
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
    """How often a mark that is known as a separator stands in the whole of a text file."""
    if _is_text(name) and not job.separator and (found := marks_in(document.text)):
        output.counts[f"marks {found[0]}"] += found[1]


def _is_text(name: str) -> bool:
    kind = kind_of(name)
    return kind is not None and kind.format in TEXT_FORMATS


def _pair(job: ReadJob, name: str, record: Record) -> Pair | BadRecord:
    prompt = _text_of(job, record, job.prompt_field)
    if isinstance(prompt, BadRecord):
        return prompt
    answer = _text_of(job, record, job.answer_field)
    if isinstance(answer, BadRecord):
        return answer
    if job.group_field:
        group = _group_of(record, job.group_field)
        if group is None:
            return _without_field(record, job.group_field)
    else:
        group = f"{job.source}#{hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
    return Pair(prompt, answer, group, job.splits.of(group), job.source)


def _text_of(job: ReadJob, record: Record, field: str) -> str | BadRecord:
    """The text of a field with line ends as `\\n` and without a BOM, or why it cannot be used."""
    if field not in record.fields:
        return _without_field(record, field)
    text = record.fields[field]
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        return BadRecord(record.line, f"field {field!r} is not text but {kind}", excerpt(str(text)[:500]))
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        foreign = "\udc80" <= text[error.start] <= "\udcff"
        return BadRecord(
            record.line, "invalid UTF-8" if foreign else "half a surrogate pair in the text", excerpt(text)
        )
    if not text.strip():
        return BadRecord(record.line, f"empty {field}")
    if size > job.max_document_bytes:
        return BadRecord(record.line, f"{size} bytes, max_document_bytes is {job.max_document_bytes}", excerpt(text))
    return text


def _without_field(record: Record, field: str) -> BadRecord:
    fields = tuple(sorted(name for name in record.fields if isinstance(name, str) and _encodes(name)))[:20]
    return BadRecord(record.line, f"no field {field!r}", f"fields: {', '.join(fields)}"[:200], fields or ("(none)",))


def _group_of(record: Record, field: str) -> str | None:
    group = number_or_text(record.fields.get(field))
    return group if group and _encodes(group) else None


def _said(record: Record, *names: str) -> str:
    """The first of some optional fields that the record fills with text."""
    for name in names:
        value = record.fields.get(name)
        if isinstance(value, str) and value and _encodes(value):
            return value
    return ""


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
