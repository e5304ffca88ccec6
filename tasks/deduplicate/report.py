"""What the report shows of deduplicate: exact and near duplicates, examples beside the text that was kept."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.engine.about import DOCUMENTS, LEDGER, MadeRun
from tasks.engine.reported import Example, Reason, Section
from tasks.shards.examples import beginning, documents_with, example_of, rows_by_reason
from tasks.wording import as_per_cent

AGAINST = "against "  # begins the reason of what is like a document of an external corpus, whose name follows
LINES = "lines"  # the reason of what was nothing but repeated lines
PASSAGES = "passages"  # the reason of what was nothing but passages that occurred before
_SAID = {
    LINES: "Nothing but lines that occur in many documents",
    PASSAGES: "Nothing but passages that occurred before",
    "exact": "Equal to another except for case and white space",
    "near": "Nearly equal to another",
}


def report(run: MadeRun, stage: str) -> Section:
    """Two examples of each reason. Cost: one pass over the ids of the documents read."""
    return Section(reasons=tuple(_reasons(run, stage)))


def _reasons(run: MadeRun, stage: str) -> Iterator[Reason]:
    ledger, documents = run.part(stage, LEDGER), run.read(stage, DOCUMENTS)
    counts, picked = rows_by_reason(ledger, "reason")
    rows = [row for rows in picked.values() for row in rows]
    wanted = {row[name] for row in rows for name in ("id", "twin")}
    texts = documents_with(documents.files if documents else (), wanted)
    for reason, count in counts.items():
        examples: list[Example] = []
        for row in picked[reason]:
            twin = texts.get(row["twin"], {})
            note = _note(row, twin)
            shown = beginning(twin.get("text", "")) if reason != "exact" else ""
            examples += example_of(texts.get(row["id"]), note, shown)
        yield Reason(name=reason, what=_said(reason), count=count, examples=tuple(examples))


def _said(reason: str) -> str:
    if reason.startswith(AGAINST):
        return f"Like a document of the corpus {reason.removeprefix(AGAINST)}"
    return _SAID.get(reason, reason)


def _note(row: Mapping[str, Any], twin: Mapping[str, Any]) -> str:
    """How alike an example is to its twin."""
    if not row["twin"]:
        return ""
    return f"{as_per_cent(row['jaccard'])} of the word sequences are the same as in {twin.get('title') or row['twin']}"
