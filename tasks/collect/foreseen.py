"""What files of instruction data will be read as, before they are read: sentences for a plan, and the parts they make.

A look is short: files up to `WHOLE_BYTES` are read whole, as far as `ALL_BYTES` reach, of others the first records.
What lies in archives shows only when it is read.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from storage.documents import LABELS, PAIRS, PREFERENCES
from storage.listing import first_few
from tasks.collect.config import CollectConfig, ConversationsSource
from tasks.collect.conversations import Unfit
from tasks.collect.discover import ARCHIVES, TEXT_FORMATS, conversation_formats, discover, kind_of
from tasks.collect.feedback.derive import foreseen_feedback, learns_preferences
from tasks.collect.feedback.sentences import feedback_sentences
from tasks.collect.forms import PARTS_OF, Missing, StatedFields, form_of
from tasks.collect.readers import read_records
from tasks.collect.records import Reading, Record

WHOLE_BYTES, ALL_BYTES = 8 * 2**20, 32 * 2**20
FIRST_RECORDS = 20
FILES_SHOWN = 3
_LONGEST_RECORD = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """A file, the form of its first record that has one (of an archive none), and its records; None where not all were
    counted."""

    file: str
    form: str
    records: int | None


def form_sentences(config: CollectConfig) -> list[str]:
    """Which form the files of each source of instruction data have, a sentence a source; what users have said last."""
    sentences = []
    for number, source in enumerate(config.conversations):
        by_form: dict[str, list[Seen]] = {}
        for seen in _seen(number, source):
            by_form.setdefault(seen.form, []).append(seen)
        by_form.pop("", None)
        forms = [
            f"{form} ({', '.join(first_few([_counted(seen) for seen in files], FILES_SHOWN))})"
            for form, files in by_form.items()
        ]
        if forms:
            sentences.append(f"source {source.name}: read as {', '.join(forms)}")
    if config.feedback:
        sentences += feedback_sentences(foreseen_feedback(config.feedback, config.max_document_bytes))
    return sentences


def foreseen_parts(config: CollectConfig) -> frozenset[str]:
    """The parts of supervised data (`pairs`, `preferences`, `labels`) that the sources of a recipe will fill.

    What users have said adds preferences where there are enough; its pairs alone make no recipe of pairs.
    """
    found = {PAIRS} if config.docstrings or config.synthetic else set()
    for number, source in enumerate(config.conversations):
        found.update({LABELS} if source.label_folders else ())
        for seen in _seen(number, source):
            packed = not seen.form  # and not looked into: pairs may be in it
            found.update((LABELS,) if packed and source.label_folders else PARTS_OF.get(seen.form, (PAIRS,)))
    if config.feedback and learns_preferences(config.feedback, config.max_document_bytes):
        found.add(PREFERENCES)
    return frozenset(found)


def _counted(seen: Seen) -> str:
    return seen.file if seen.records is None else f"{seen.file}: {seen.records:,} records"


def _seen(number: int, source: ConversationsSource) -> Iterator[Seen]:
    stated = StatedFields.model_validate(source.model_dump(include=set(StatedFields.model_fields)))
    left = ALL_BYTES
    for name, path in discover(source.path, f"collect.conversations[{number}].path", conversation_formats(source)):
        status = path.stat()
        whole = status.st_size <= min(WHOLE_BYTES, left)
        left -= status.st_size if whole else 0
        seen = _look(name, path, (status.st_size, status.st_mtime_ns), whole, source, stated)
        if seen is not None:
            yield seen


@lru_cache(maxsize=1024)
def _look(
    name: str, path: Path, state: tuple[int, int], whole: bool, source: ConversationsSource, stated: StatedFields
) -> Seen | None:
    """What a file shows, as long as its `state` (bytes and time of change) stays; None for no record of any form."""
    kind = kind_of(name)
    if kind is None:
        return None
    if kind.format in ARCHIVES:
        return Seen(name, "", None)
    if kind.format in TEXT_FORMATS:
        return Seen(name, LABELS, 1)
    reading = Reading(stated.columns, _LONGEST_RECORD, source.encoding, source.delimiter, source.quote)
    form, count = "", 0
    with tempfile.TemporaryDirectory() as scratch:
        records = read_records(path, kind, reading, Path(scratch), Counter())
        for record in records if whole else islice(records, FIRST_RECORDS):
            count += isinstance(record, Record)
            if isinstance(record, Record) and not form:
                try:
                    form = form_of(record.fields, stated)
                except (Missing, Unfit):
                    continue
    return Seen(name, form, count if whole else None) if form else None
