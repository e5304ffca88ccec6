"""What the stage rewrite says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.lookup import rows_where
from tasks.engine.about import LEDGER, About, MadeRun, Step, settings
from tasks.engine.reported import Count, Section
from tasks.rewrite.stage import OUTCOMES
from tasks.wording import figure


def _report(run: MadeRun, stage: str) -> Section:
    """How many documents had which outcome."""
    summary = run.summary(stage)
    counts = tuple(Count(what=one.replace("_", " "), count=summary[one]) for one in OUTCOMES if summary.get(one))
    return Section(counts={"Documents that another model was asked for": counts} if counts else {})


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """What became of a document that was chosen."""
    ledger = run.part(stage, LEDGER)
    rows = rows_where(ledger, "id", document["id"]) if ledger is not None else []
    return {"verdict": rows[0]["outcome"], "tokens": rows[0]["tokens"], "why": rows[0]["why"]} if rows else None


def _words(step: Step) -> list[str]:
    why = f", {step['why']}" if step["why"] else ""
    return [f"{figure(step['tokens'])} tokens{why}"]


REWRITE = About(
    title="Rewriting",
    work=None,
    compared=settings("share", "model", "temperature", "most_requests"),
    report=_report,
    explain=_explain,
    words=_words,
)
