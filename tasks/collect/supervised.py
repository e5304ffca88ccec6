"""The `conversations` source: records of instruction data -> pairs, preferences and labels (forms.py).

A file has one form, that of its first record that has any; a record of another form is set aside, since a file in which
they are mixed is most often one that was put together wrongly. A conversation is known by its first question: those
that begin alike, in whatever source, are in one group and so in one split.

Cost: about 15 MB of text a CPU-second from JSON lines of 2 kB. Memory: one record.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from storage.documents import LABELS, USER, Message, Pair
from tasks.collect.conversations import Unfit
from tasks.collect.discover import TEXT_FORMATS, kind_of
from tasks.collect.files import ReadJob, records_of
from tasks.collect.forms import Missing, Read, Row, StatedFields, form_of, read_form, unread
from tasks.collect.output import JobOutput
from tasks.collect.records import BadRecord, Record, excerpt
from tasks.collect.texts import cleaned, encodes, group_of, without_field
from tasks.engine.context import Summary
from tasks.words import folded

# Figures of a job, for the stage's notices; the first three go on with a field or form.
UNREAD, ROWS_OF, FILES_OF, UNANSWERED = "unread", "rows of", "files of", "unanswered"
MOST_FIGURES = 200  # a job with more kinds of figures has fields whose names are data


def read_supervised(job: ReadJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one slice of a `conversations` source. Records that hold nothing are dropped, as empty."""
    assert job.form is not None, job.source
    forms: dict[str, str] = {}
    with JobOutput(out, job.source, job.documents_per_shard) as output:
        for name, record in records_of(job, inputs, output, out):
            output.counts["read"] += 1
            if isinstance(record, Record) and _is_empty(record):
                output.empty(name, record.line)
                continue
            made = _pairs(job, job.form, name, record, forms, output) if isinstance(record, Record) else record
            if isinstance(made, BadRecord):
                output.bad(name, made)
                continue
            for part, pair in made:
                output.pair(pair, part)
            output.counts["kept"] += 1
            output.counts[f"{ROWS_OF} {forms[name]}"] += 1
        for form in forms.values():
            output.counts[f"{FILES_OF} {form}"] += 1
    return output.summary()


def _is_empty(record: Record) -> bool:
    """Whether no field holds anything: a blank row, or one of nulls alone."""
    return all(value is None or (isinstance(value, str) and not value.strip()) for value in record.fields.values())


def _pairs(
    job: ReadJob, stated: StatedFields, name: str, record: Record, forms: dict[str, str], output: JobOutput
) -> list[tuple[str, Pair]] | BadRecord:
    """The pairs of a record, each with its part, or why there are none; `forms` has the form of each file so far."""
    kind = kind_of(name)
    if kind is not None and kind.format in TEXT_FORMATS:
        record = replace(record, fields={**record.fields, "label": Path(name).parent.name})
    try:
        form = form_of(record.fields, stated)
        if forms.setdefault(name, form) != form:
            raise Unfit(f"the record is of the form {form}, those before it in the file of the form {forms[name]}")
        read = read_form(record.fields, form, stated)
    except Missing as missing:
        return without_field(record, *missing.args)
    except Unfit as unfit:
        return BadRecord(record.line, str(unfit), _shown(record))
    except RecursionError:
        return BadRecord(record.line, "the record is nested too deeply")
    made = []
    for row in read.rows:
        pair = _pair(job, name, record, row)
        if isinstance(pair, BadRecord):
            return pair
        made.append((row.part, pair))
    output.counts[UNANSWERED] += read.unanswered
    _count_unread(job, record, read, output)
    return made


def _pair(job: ReadJob, file: str, record: Record, row: Row) -> Pair | BadRecord:
    """A row as it is kept: its texts cleaned, in the group of its first question."""
    asked: list[Message] = []
    for message in row.asked:
        text = cleaned(
            record,
            "prompt" if message.role == USER else f"turn ({message.role})",
            message.content,
            job.max_document_bytes,
        )
        if isinstance(text, BadRecord):
            return text
        asked.append(Message(message.role, text))
    answer = cleaned(record, "label" if row.part == LABELS else "answer", row.answer, job.max_document_bytes)
    if isinstance(answer, BadRecord):
        return answer
    rejected = cleaned(record, "rejected", row.rejected, job.max_document_bytes) if row.rejected else ""
    if isinstance(rejected, BadRecord):
        return rejected
    prompt = asked.pop().content if asked[-1].role == USER else ""
    pair = Pair.of(prompt, answer, "", "", job.source, tuple(asked), rejected)
    group: str | None = group_of(record, job.group_field) if job.group_field else _known_by(pair.opening)
    if group is None:
        return without_field(record, job.group_field or "")
    split = job.splits.of(group, "" if job.group_field else file)
    return Pair.of(prompt, answer, group, split, job.source, pair.earlier, rejected)


def _known_by(opening: str) -> str:
    """The group of all that begin with a question, without regard to case and spacing."""
    normal = folded(opening)
    return f"prompt#{hashlib.sha256(normal.encode()).hexdigest()[:16]}"


def _count_unread(job: ReadJob, record: Record, read: Read, output: JobOutput) -> None:
    for name in unread(record.fields, (*read.fields, job.group_field or "")):
        figure = f"{UNREAD} {name}"
        if encodes(name) and (figure in output.counts or len(output.counts) < MOST_FIGURES):
            output.counts[figure] += 1


def _shown(record: Record) -> str:
    """The beginning of a record for the ledger."""
    try:
        return excerpt(str(record.fields)[:500])
    except RecursionError:
        return ""
