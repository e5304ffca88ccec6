"""A pair, preference or labelled text that `llmill explain` is asked for: which one is meant."""

from collections.abc import Callable, Mapping
from typing import Any

from storage.documents import SUPERVISED, read_rows, row_pair
from storage.errors import DataError
from storage.store.artifacts import Part
from tasks.wording import clipped
from tasks.words import folded

SHOWN = 5  # of several that are meant

Matches = Callable[[Mapping[str, Any]], bool]


def find_pair(part_of: Callable[[str], Part | None], wanted: str) -> dict[str, Any] | None:
    """The one row meant, and its part: by its id, by the start of it, or by words of a question, in this order.

    `part_of` gives the parts of the stage that collects. DataError where several are meant.
    """
    words = folded(wanted)
    ways: list[Matches] = [
        lambda row: bool(row["id"] == wanted),
        lambda row: bool(row["id"].startswith(wanted)),
        lambda row: any(words in folded(text) for text in _questions(row)),
    ]
    parts = [part for name in SUPERVISED if (part := part_of(name)) is not None]
    for matches in ways if words else ():
        rows = ({"part": part.name, **row} for part in parts for file in part.files for row in read_rows(file.path))
        found = [row for row in rows if matches(row)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = "; ".join(f"{row['id'][:12]} {clipped(question_of(row), 40)}" for row in found[:SHOWN])
            raise DataError(f"{wanted!r} means {len(found)} pairs. Give an id: {shown}")
    return None


def question_of(row: Mapping[str, Any]) -> str:
    """What a person knows a row by: its first question."""
    pair = {name: value for name, value in row.items() if name != "part"}
    return row_pair(pair).opening


def _questions(row: Mapping[str, Any]) -> list[str]:
    return [row["prompt"], *(message["content"] for message in row["earlier"] if message["role"] == "user")]
