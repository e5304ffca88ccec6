"""The verdict of a retraining as a section of the report."""

from collections.abc import Mapping
from typing import Any

from flows.champion.verdict import HEADS, PROMOTING, Decision, is_retraining
from flows.votes import SHOWN_CHARACTERS
from tasks.wording import as_per_cent, figure, signed

MISSING = "–"


def model_shown(run: Mapping[str, Any]) -> str:
    """Whose figures the report of a retraining shows outside the verdict; empty for any other run."""
    if not is_retraining(run):
        return ""
    verdict = run.get("verdict") or {}
    same = verdict.get("candidate") and verdict["candidate"] == verdict["champion"]
    return "the candidate, which is the champion itself" if same else "the candidate"


def judged(verdict: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Decision, reasons and a row for each compared figure; None for a run that judges nothing."""
    if not verdict:
        return None
    head = HEADS[verdict["decision"]]
    compared = [(verdict.get("figure", {}), False), *((guard, True) for guard in verdict.get("guards", []))]
    return {
        "decision": verdict["decision"],
        "decided": verdict["decision"] != Decision.NONE,
        "promoted": verdict["decision"] in PROMOTING,
        "head": head[0].upper() + head[1:].replace("`", "") + ".",
        "reasons": verdict["reasons"],
        "champion_run": verdict.get("champion_run") if "confidence" in verdict else None,
        "interval": as_per_cent(verdict.get("confidence", 0.95)),
        "rows": [_row(row, guard) for row, guard in compared if "verdict" in row],
        "votes": [_voted(row) for row in verdict.get("votes", ())],
    }


def _voted(row: Mapping[str, Any]) -> dict[str, str]:
    """A model as people's votes rank it (flows/votes.py)."""
    counts = ("votes", "wins", "losses", "ties", "both_bad")
    return {
        "model": row["model"][:SHOWN_CHARACTERS] + (" (champion)" if row["champion"] else ""),
        "points": f"{row['points']:.0f}",
        "interval": f"{row['low']:.0f} to {row['high']:.0f}",
        **{name: str(row[name]) for name in counts},
    }


def _row(row: Mapping[str, Any], guard: bool) -> dict[str, Any]:
    interval = MISSING if row.get("low") is None else f"{signed(row['low'])} to {signed(row['high'])}"
    return {
        "name": row["name"],
        "guard": guard,
        "verdict": row["verdict"],
        "interval": interval,
        "difference": signed(row["difference"]) if "difference" in row else MISSING,
        **{name: figure(row[name]) if name in row else MISSING for name in ("old", "new", "items")},
    }
