"""What the stages moderator and moderate say about themselves."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from storage.lookup import rows_where
from storage.store.artifacts import Part
from tasks.engine.about import DOCUMENTS, LEDGER, About, MadeRun, Step, not_about_documents, settings
from tasks.engine.reported import Example, Reason, Section, Table
from tasks.moderate.stage import JUDGED, SCORE
from tasks.shards.examples import documents_with, example_of, rows_by_reason
from tasks.wording import as_per_cent, figure

MOST_GROUPS = 40  # rows of the table of groups, those with most false alarms
FIGURES = ("threshold", "rows", "of_it", "precision", "recall", "f1", "best_threshold", "best_f1")
COLUMNS = ("category", "threshold", "held-out rows", "of it", "precision", "recall", "F1", "best threshold", "its F1")


def _notices(recipe: Any, will: str) -> list[str]:
    """Nothing to say; raises DataError for a list that cannot be used, before anything is built."""
    from tasks.moderate.moderator import Moderator

    if will == "build":
        Moderator.of(recipe.moderate, "moderate.")
    return []


def _scores(run: MadeRun, stage: str) -> Section:
    """How well held-out rows are told apart, and which groups of them are flagged wrongly how often."""
    part = run.part(stage, "figures")
    scores = json.loads((part / "figures.json").read_bytes()) if part is not None else {"categories": [], "groups": []}
    rows = tuple((one["name"], *(_text(one[name]) for name in FIGURES)) for one in scores["categories"])
    note = "The best threshold is that of the highest F1 on these rows; moderate.categories.N.threshold sets yours."
    tables = [Table(heading="Moderation of held-out rows", columns=COLUMNS, rows=rows, note=note)] if rows else []
    ranked = sorted(scores["groups"], key=lambda one: (-one["false_alarms"], one["field"], one["value"]))
    groups = tuple(
        (f"{one['field']}: {one['value']}", one["category"], figure(one["rows"]), as_per_cent(one["false_alarms"]))
        for one in ranked[:MOST_GROUPS]
    )
    if groups:
        columns = ("group", "category", "rows not of it", "false alarms")
        tables.append(Table(heading="False alarms of moderation by group", columns=columns, rows=groups))
    return Section(tables=tuple(tables))


def _text(value: float | None) -> str:
    return "not known" if value is None else figure(value)


def _dropped(run: MadeRun, stage: str) -> Section:
    """Documents by category, with examples; of pairs and preferences the counts."""
    ledger = run.part(stage, LEDGER)
    kinds = {part: rows_by_reason(ledger, "rule", part)[0] for part in JUDGED if part != DOCUMENTS}
    rows = tuple(
        (part, category, figure(count)) for part, counts in kinds.items() for category, count in counts.items()
    )
    table = Table(heading="Pairs that moderation dropped", columns=("part", "category", "dropped"), rows=rows)
    return Section(reasons=tuple(_reasons(run, stage, ledger)), tables=(table,) if rows else ())


def _reasons(run: MadeRun, stage: str, ledger: Part | None) -> Iterator[Reason]:
    documents = run.read(stage, DOCUMENTS)
    counts, picked = rows_by_reason(ledger, "rule", DOCUMENTS)
    files = documents.files if documents else ()
    for category, count in counts.items():
        rows = [row for row in picked[category] if row["shard"] < len(files)]
        shards = [files[shard] for shard in sorted({row["shard"] for row in rows})]
        texts = documents_with(shards, {row["id"] for row in rows})
        examples: list[Example] = []
        for row in rows:
            examples += example_of(texts.get(row["id"]), f"score {figure(row['value'])}, {as_per_cent(row['share'])}")
        yield Reason(name=category, what=f"Flagged as {category}", count=count, examples=tuple(examples))


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    verdicts, ledger = run.part(stage, "verdicts"), run.part(stage, LEDGER)
    rows = rows_where(verdicts, "id", document["id"]) if verdicts is not None else []
    if not rows or ledger is None:
        return None
    dropped = bool(rows_where(ledger, "id", document["id"]))
    step: Step = {"verdict": "dropped" if dropped else "kept"}
    step |= {"reason": rows[0]["rule"]} if rows[0]["rule"] else {}
    return step | {name: value for name, value in rows[0].items() if name.startswith(SCORE)}


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    ledger = run.part(stage, LEDGER)
    if ledger is None:  # the recipe moderates nothing
        return None
    rows = rows_where(ledger, "id", pair["id"])
    return {"verdict": "dropped", "reason": rows[0]["rule"], "score": rows[0]["value"]} if rows else {"verdict": "kept"}


MODERATOR = About(
    title="The judge of texts",
    work=None,
    notices=_notices,
    reads_sources=True,
    report=_scores,
    explain=not_about_documents,
)
MODERATE = About(
    title="Moderation",
    data=(DOCUMENTS, "pairs"),
    compared=settings("documents", "max_flagged"),
    headline={"documents": "kept"},
    report=_dropped,
    explain=_explain,
    explain_pair=_explain_pair,
)
