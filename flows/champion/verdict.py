"""The verdict of a retraining, as its run file holds it, in words. `flows/champion/retrain_run.py` makes it."""

from collections.abc import Iterable, Mapping
from typing import Any

from flows.terminal.columns import NAMES, wrapped

PROMOTED = ("promoted", "first", "replaced")
HEADS = {
    "promoted": "promoted: the candidate is the champion now, and the old one is `previous`",
    "first": "promoted: the first champion",
    "replaced": "promoted in place of a damaged champion",
    "kept": "champion kept",
    "declined": "champion kept: the promotion was not approved",
    "refused": "not promoted: there is still no champion",
    "spared": "not promoted: the damaged champion stays",
    "none": "none, and the champion stays as it is",
}
REJECTED = ("kept", "declined", "refused", "spared")


def is_retraining(run: Mapping[str, Any]) -> bool:
    """Whether a run compares a candidate with the champion, as far as it came."""
    return run.get("pipeline") == "retrain" or bool(decision_of(run))


def decision_of(run: Mapping[str, Any]) -> str:
    """What a retraining decided, a key of HEADS; empty for a run that decided nothing."""
    return str((run.get("verdict") or {}).get("decision", ""))


def rejected_releases(known: Iterable[Mapping[str, Any]]) -> set[str]:
    """The digests of releases that retrainings have made and not promoted, of all runs; not what others made too."""
    made: set[str] = set()
    rejected: set[str] = set()
    for run in known:
        verdict = run.get("verdict") or {}
        if verdict.get("decision") in REJECTED and verdict["candidate"] != verdict["champion"]:
            rejected.add(verdict["candidate"])
        else:
            made |= {row["artifact"]["digest"] for row in run["stages"] if "artifact" in row}
    return rejected - made


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict for a terminal: the decision, then its reasons, one on each line."""
    reasons: list[str] = verdict["reasons"]
    head = wrapped(HEADS[verdict["decision"]], f"{'verdict':<{NAMES}}")
    return [*head, *(line for reason in reasons for line in indented(reason))]


def verdict_sentence(verdict: Mapping[str, Any]) -> str:
    """The verdict on one line."""
    return "; ".join([HEADS[verdict["decision"]], *verdict["reasons"]])


def indented(text: str) -> list[str]:
    """A text under the column of names, in 80 columns."""
    return wrapped(text, " " * NAMES)
