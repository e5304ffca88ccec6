"""What the stage decontam says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.lookup import rows_where
from tasks.decontaminate.report import report
from tasks.decontaminate.stage import CUT, DROPPED
from tasks.engine.about import DOCUMENTS, LEDGER, About, MadeRun, Step, settings
from tasks.wording import as_per_cent

SHOWN = 5  # items of one text


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """The items that a document holds, and whether it was cut or went for them."""
    ledger = run.part(stage, LEDGER)
    if ledger is None:
        return None
    wanted = document.get("part", DOCUMENTS)
    rows = [row for row in rows_where(ledger, "id", document["id"]) if row["part"] == wanted]
    names = ("benchmark", "item", "share", "action")
    dropped = any(row["action"] == DROPPED for row in rows)
    step: Step = {"verdict": "dropped" if dropped else "kept"}
    step["items"] = [{name: row[name] for name in names} for row in rows]
    return step | {"characters_cut": rows[0]["characters"] if rows and rows[0]["action"] == CUT else 0}


def _words(step: Step) -> list[str]:
    items = step["items"]
    if not items:
        return ["no item of a benchmark"]
    cut = f"; {step['characters_cut']:,} characters cut out" if step["characters_cut"] else ""
    lines = [f"{len(items):,} item{'s' * (len(items) != 1)} of benchmarks{cut}"]
    return lines + [
        f"{item['benchmark']}: {as_per_cent(item['share'])} of item {item['item'][:12]}" for item in items[:SHOWN]
    ]


DECONTAM = About(
    title="Decontamination",
    data=(DOCUMENTS, "pairs"),
    compared=settings("mode", "run_words", "min_overlap"),
    headline={"documents": "kept"},
    report=report,
    explain=_explain,
    explain_pair=_explain,
    words=_words,
)
