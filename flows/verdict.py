"""The verdict of a retraining, as its run file holds it, in words. `flows/retraining.py` makes it."""

from collections.abc import Mapping
from typing import Any

PROMOTED = ("promoted", "first")
HEADS = {
    "promoted": "promoted: the candidate is the champion now, and the old one is `previous`",
    "first": "promoted: the first champion",
    "kept": "champion kept",
    "refused": "not promoted: there is still no champion",
    "none": "none, and the champion stays as it is",
}


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict for a terminal: the decision, then its reasons, a line each."""
    reasons: list[str] = verdict["reasons"]
    return [f"{'verdict':<12}{HEADS[verdict['decision']]}", *(f"{'':<12}{line}" for line in reasons)]
