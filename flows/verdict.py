"""The verdict of a retraining, as its run file holds it, in words. `flows/retraining.py` makes it."""

import textwrap
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
    return [f"{'verdict':<12}{HEADS[verdict['decision']]}", *(line for reason in reasons for line in indented(reason))]


def indented(text: str) -> list[str]:
    """A text under the column of names, in 80 columns."""
    return textwrap.wrap(text, 80, initial_indent=" " * 12, subsequent_indent=" " * 12, break_long_words=False)
