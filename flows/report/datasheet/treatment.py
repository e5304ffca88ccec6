"""What each stage did that made a corpus: counts, reasons with examples, what its report shows, ids in its ledger.

A ledger's reason is its first column of text beside id, part, source and twin; `part` and `action` part its rows
further, where it has them. Streams; memory holds the examples and the ids that are shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.report.datasheet.facts import Counts, Dropped, Listed, Shown, Treatment
from flows.report.datasheet.personal import FirstIds
from flows.report.datasheet.shown import example_text, short_text, short_texts
from flows.report.run_data import RunData
from storage.store.artifacts import Part
from tasks.engine.about import DOCUMENTS, LEDGER
from tasks.engine.reported import Example, Section, Table
from tasks.notices import notices_of
from tasks.shards.examples import documents_with

MOST_KINDS = 200  # of rows in a ledger; further ones count together
OTHER = "other"
VERDICTS = "verdicts"  # a row for each document that was judged, dropped or not; those that were flagged have a reason
FLAGGED = "flagged"
_NO_REASONS = ("id", "part", "source", "twin")


def treatment(data: RunData, stage: str) -> Treatment:
    """What one stage did to the documents, and whatever its report shows."""
    summary, section = data.summary(stage), data.section(stage)
    counted = {name: summary.get(name) for name in ("read", "kept", "dropped", "quarantined")}
    return Treatment(
        stage=stage,
        title=data.about(stage).title or stage,
        **counted,
        reasons=tuple(_reasons(data, stage, section)),
        ledger=(*_listed(data.part(stage, LEDGER)), *_listed(data.part(stage, VERDICTS), FLAGGED)),
        counts=tuple(Counts(heading=heading, rows=short_counts(rows)) for heading, rows in section.counts.items()),
        tables=tuple(map(short_table, section.tables)),
        figures={
            short_text(name): short_texts(value)
            for name, value in summary.items()
            if name not in counted and not isinstance(value, (dict, list))
        },
        notices=tuple(map(short_text, notices_of(summary))),
    )


def short_table(table: Table) -> Table:
    """A table without personal data."""
    return Table.model_validate(short_texts(table.model_dump(mode="json")))


def short_counts(rows: Any) -> tuple[Any, ...]:
    """Counts without personal data."""
    return tuple(row.model_copy(update={"what": short_text(row.what)}) for row in rows)


def _reasons(data: RunData, stage: str, section: Section) -> Iterator[Dropped]:
    reasons = sorted(section.reasons, key=lambda reason: (-reason.count, reason.name, reason.what))
    wanted = {example.id for reason in reasons for example in reason.examples if example.id}
    documents = data.read(stage, DOCUMENTS)
    texts = documents_with(documents.files, wanted) if documents and wanted else {}
    for reason in reasons:
        examples = tuple(_shown(example, texts.get(example.id)) for example in reason.examples)
        name, what = short_text(reason.name), short_text(reason.what)
        yield Dropped(name=name, what=what, count=reason.count, examples=examples)


def _shown(example: Example, document: Mapping[str, Any] | None) -> Shown:
    """An example from the whole text of its document; one that is gone, or that never was, as its stage has cut it."""
    return Shown(
        id=example.id,
        title=short_text(example.title),
        source=short_text(example.source),
        text=example_text(document["text"]) if document else short_text(example.text),
        note=short_text(example.note),
        instead=short_text(example.twin),
    )


def _listed(ledger: Part | None, done: str = "") -> Iterator[Listed]:
    """How many rows of a ledger have the same reason, part and action, most first, and the first ids of each.

    `done` is the action where no column says it; a row without a reason is of a document that nothing is said against.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    ids: dict[tuple[str, ...], FirstIds] = {}
    for stored in ledger.files if ledger else ():
        with pq.ParquetFile(stored.path) as file:
            columns = _kind_columns(file.schema_arrow)
            if not columns:
                continue
            present = [name for name in columns if name]
            for batch in file.iter_batches(65_536, columns=["id", *present]):
                values = [batch[name].to_pylist() if name else [""] * len(batch) for name in columns]
                for identity, *kind in zip(batch["id"].to_pylist(), *values, strict=True):
                    key = tuple(kind)
                    if done and not kind[0]:
                        continue
                    if key not in counts and len(counts) >= MOST_KINDS:
                        key = (OTHER, "", "")
                    counts[key] += 1
                    ids.setdefault(key, FirstIds()).add(identity)
    for key, rows in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        reason, part, action = map(short_text, key)
        yield Listed(reason=reason, part=part or DOCUMENTS, action=action or done, rows=rows, ids=tuple(ids[key].ids))


def _kind_columns(schema: pa.Schema) -> list[str]:
    """The columns of reason, part and action; an empty name where there is none, nothing for rows without an id."""
    texts = [field.name for field in schema if field.type == pa.string()]
    if "id" not in texts:
        return []
    reason = next((name for name in texts if name not in _NO_REASONS), "")
    return [reason, *(name if name in texts else "" for name in ("part", "action"))]
