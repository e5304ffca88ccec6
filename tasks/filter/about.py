"""What the stage filter says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.lookup import rows_where
from tasks.engine.about import DOCUMENTS, LEDGER, About, MadeRun, Step, settings
from tasks.filter.presets import PRESETS
from tasks.filter.report import report
from tasks.filter.rules import RULES, threshold
from tasks.filter.signals import EDITS
from tasks.wording import figure


def _explain(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Every rule that is in force with the document's value, in the order in which they judge."""
    signals, ledger = run.part(stage, "signals"), run.part(stage, LEDGER)
    if signals is None or ledger is None:
        return None
    measured = rows_where(signals, "id", document["id"])[0]
    config = run.config(stage)
    rules = []
    for rule in RULES:
        side, _, signal = rule.partition("_")
        value = measured.get(signal)
        if config.get(rule) is None or value is None:  # nothing to judge this document by
            continue
        limit = threshold(rule, config[rule], measured["language"], config["limits_by_language"])
        passed = value >= limit if side == "min" else value <= limit
        rules.append({"rule": rule, "value": value, "threshold": limit, "passed": passed})
    step: Step = {"verdict": "kept", "rules": rules}
    step["edits"] = {name: measured[name] for name in EDITS if measured[name]}
    step["language"] = measured["language"]
    dropped = rows_where(ledger, "id", document["id"])
    if dropped:
        step |= {"verdict": "dropped", "reason": dropped[0]["rule"]}
        step |= {name: dropped[0][name] for name in ("value", "threshold")}
    return step


def _explain_pair(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    """Whether something in the pair was redacted: nothing else happens to it here."""
    part = run.part(stage, pair["part"])
    rows = rows_where(part, "id", pair["id"]) if part is not None else []
    return {"verdict": "kept", "redacted": rows[0] != {name: pair[name] for name in rows[0]}} if rows else None


def _words(step: Step) -> list[str]:
    if "redacted" in step:
        return ["redacted" if step["redacted"] else "nothing redacted"]
    edits = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in step["edits"].items())
    passed = sum(rule["passed"] for rule in step["rules"])
    first = f"{passed} of {len(step['rules'])} rules passed" + (f"; {edits}" if edits else "; nothing edited")
    if step["verdict"] == "dropped":
        first = f"by {step['reason']}: {figure(step['value'])}, threshold {figure(step['threshold'])}"
    lines = [first, f"  {'rule':<34}{'value':>8}{'threshold':>10}"[:55]]
    for rule in step["rules"]:
        mark = " " if rule["passed"] else "x"
        lines.append(f"{mark} {rule['rule']:<34}{figure(rule['value']):>8}{figure(rule['threshold']):>9}")
    return lines


FILTER = About(
    dial="preset",
    presets=PRESETS,
    data=(DOCUMENTS, "pairs"),
    compared=settings("preset", "languages"),
    headline={"documents": "kept"},
    report=report,
    explain=_explain,
    explain_pair=_explain_pair,
    words=_words,
)
