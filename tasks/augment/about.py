"""What the stage augment says about itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from storage.lookup import rows_where
from storage.store.artifacts import Part
from tasks.augment.config import KINDS
from tasks.augment.stage import DOCUMENTS, LEDGER
from tasks.engine.about import About, MadeRun, Step
from tasks.engine.reported import Count, Section, Table
from tasks.shards.examples import beginning, documents_with, rows_by_reason
from tasks.wording import as_per_cent, figure

COUNTS, EXAMPLES = "Changed documents by kind", "Documents beside their changed forms"


def _report(run: MadeRun, stage: str) -> Section:
    """How many there are of each kind, their share of what is learned, and examples beside their sources."""
    summary = run.summary(stage)
    if "augmented" not in summary:
        return Section()
    counts = [Count(what=kind, count=summary[f"augmented_{kind}"]) for kind in KINDS if f"augmented_{kind}" in summary]
    counts += [Count(what="sources replaced", count=summary["replaced"])]
    examples = tuple(_examples(run, stage, run.part(stage, LEDGER)))
    share = summary["augmented_bytes"] / max(1, summary["augmented_bytes"] + summary["original_bytes"])
    note = f"Changed documents have {as_per_cent(share)} of the bytes to be learned from; none is held out."
    columns = ("kind", "id", "id of the source", "its beginning", "beginning of the changed form")
    table = Table(heading=EXAMPLES, columns=columns, rows=examples, note=note)
    return Section(counts={COUNTS: tuple(counts)}, tables=(table,) if examples else ())


def _examples(run: MadeRun, stage: str, ledger: Part | None) -> Iterator[tuple[str, ...]]:
    _, picked = rows_by_reason(ledger, "kind")
    rows = [row for kind in KINDS for row in picked.get(kind, ())]
    made, read = run.part(stage, DOCUMENTS), run.read(stage, DOCUMENTS)
    changed = documents_with(made.files if made else (), {row["id"] for row in rows})
    sources = documents_with(read.files if read else (), {row["twin"] for row in rows})
    for row in rows:
        if row["id"] in changed and row["twin"] in sources:
            texts = (beginning(sources[row["twin"]]["text"]), beginning(changed[row["id"]]["text"]))
            yield (row["kind"], row["id"], row["twin"], *texts)


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """The changed forms of a document, and whether they stand in its place."""
    ledger = run.part(stage, LEDGER)
    if ledger is None:
        return None
    rows = rows_where(ledger, "twin", document["id"])
    forms = [{name: row[name] for name in ("id", "kind", "bytes")} for row in rows]
    return {"verdict": "replaced" if any(row["instead"] for row in rows) else "kept", "forms": forms}


def _explain_lost(run: MadeRun, stage: str, wanted: str, whole: bool) -> list[Step]:
    """A changed form itself, by its id: it leads to its source."""
    ledger = run.part(stage, LEDGER)
    rows = rows_where(ledger, "id", wanted) if ledger is not None and whole else []
    return [{"verdict": "made here", "kind": row["kind"], "id": row["id"], "final": row["twin"]} for row in rows]


def _words(step: Step) -> list[str]:
    if "forms" not in step:
        return [f"{step['kind']}, of {step['final']}"]
    if not step["forms"]:
        return ["in no other form"]
    return [f"{form['kind']}: {form['id']}, {figure(form['bytes'])} bytes" for form in step["forms"]]


AUGMENT = About(
    title="Augmentation",
    data=(DOCUMENTS,),
    compared=lambda config: {
        "max_share": config.max_share,
        **{f"{name}.share": kind.share for name, kind in config.kinds.items()},
    },
    headline={"augmented": "augmented"},
    report=_report,
    explain=_explain,
    explain_lost=_explain_lost,
    words=_words,
)
