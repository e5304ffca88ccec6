"""The verdict of a retraining, as its run file holds it, in words. `flows/champion/retrain_run.py` makes it."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from flows.terminal.columns import NAMES, wrapped


class Decision(StrEnum):
    """How a retraining ended."""

    PROMOTED = "promoted"
    FIRST = "first"  # promoted, and there was no champion
    REPLACED = "replaced"  # promoted, and the champion was damaged
    KEPT = "kept"
    DECLINED = "declined"  # a person was asked and did not approve
    REFUSED = "refused"  # not sound, and there was no champion
    SPARED = "spared"  # not sound, and the champion is damaged
    NONE = "none"  # the run ended before the verdict


PROMOTING = (Decision.PROMOTED, Decision.FIRST, Decision.REPLACED)
REJECTING = (Decision.KEPT, Decision.DECLINED, Decision.REFUSED, Decision.SPARED)
HEADS = {
    Decision.PROMOTED: "promoted: the candidate is the champion now, and the old one is `previous`",
    Decision.FIRST: "promoted: the first champion",
    Decision.REPLACED: "promoted in place of a damaged champion",
    Decision.KEPT: "champion kept",
    Decision.DECLINED: "champion kept: the promotion was not approved",
    Decision.REFUSED: "not promoted: there is still no champion",
    Decision.SPARED: "not promoted: the damaged champion stays",
    Decision.NONE: "none, and the champion stays as it is",
}


def is_retraining(run: Mapping[str, Any]) -> bool:
    """Whether a run compares a candidate with the champion, as far as it came."""
    return run.get("pipeline") == "retrain" or bool(decision_of(run))


def decision_of(run: Mapping[str, Any]) -> str:
    """What a retraining decided, a Decision; empty for a run that decided nothing."""
    return str((run.get("verdict") or {}).get("decision", ""))


def rejected_releases(known: Iterable[Mapping[str, Any]]) -> set[str]:
    """The digests of releases that retrainings have made and not promoted, of all runs; not what others made too."""
    made: set[str] = set()
    rejected: set[str] = set()
    for run in known:
        verdict = run.get("verdict") or {}
        if verdict.get("decision") in REJECTING and verdict["candidate"] != verdict["champion"]:
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
