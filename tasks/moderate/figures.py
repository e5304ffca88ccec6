"""How well the judge judges held-out rows: by category, and how often each group of rows is flagged wrongly.

A group is what a field of the rows says, such as a language or a source. A false alarm is a row that is flagged as
what it is not; the share is of the group's rows that are not of the category.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.collect.labelled import Labelled
from tasks.moderate.config import Category

Known = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]
DIGITS = 6
MOST_VALUES = 1000  # of a field, those of most rows


def figures_of(
    categories: Sequence[Category], rows: Sequence[Labelled], truth: Mapping[str, Known], scores: Mapping[str, Floats]
) -> dict[str, Any]:
    """All figures. `truth` has for each category 1 (is of it), 0 (is not) or -1 (not known) by row, `scores` (rows,).

    A figure that would be divided by nothing is None.
    """
    limits = {category.name: category.threshold for category in categories}
    return {
        "rows": len(rows),
        "categories": [_of_category(name, known, scores[name], limits[name]) for name, known in truth.items()],
        "groups": list(_groups(rows, truth, scores, limits)),
    }


def _of_category(name: str, known: Known, scores: Floats, threshold: float) -> dict[str, Any]:
    rows, scored = known[known >= 0] == 1, scores[known >= 0]
    best, best_f1 = best_threshold(rows, scored)
    return {
        "name": name,
        "threshold": threshold,
        "rows": len(rows),
        "of_it": int(rows.sum()),
        **told_apart(rows, scored >= threshold),
        "best_threshold": best,
        "best_f1": best_f1,
    }


def told_apart(rows: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """Precision, recall, F1, accuracy, and the share of false alarms among rows that are not of it."""
    hits, alarms = int((rows & flagged).sum()), int((~rows & flagged).sum())
    return {
        "precision": _share(hits, int(flagged.sum())),
        "recall": _share(hits, int(rows.sum())),
        "f1": _share(2 * hits, int(flagged.sum()) + int(rows.sum())),
        "accuracy": _share(int((rows == flagged).sum()), len(rows)),
        "false_alarms": _share(alarms, int((~rows).sum())),
    }


def best_threshold(rows: npt.NDArray[np.bool_], scores: Floats) -> tuple[float | None, float | None]:
    """The threshold with the highest F1 on these rows, and that F1; the highest such threshold on a tie."""
    if not rows.any():
        return None, None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(rows[order])
    f1 = 2 * hits / (np.arange(1, len(rows) + 1) + rows.sum())
    last = np.append(np.diff(scores[order]) != 0, True)  # a threshold flags all rows of one score
    f1[~last] = -1
    place = int(f1.argmax())
    return round(float(scores[order][place]), DIGITS), round(float(f1[place]), DIGITS)


def _groups(
    rows: Sequence[Labelled], truth: Mapping[str, Known], scores: Mapping[str, Floats], limits: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        for field, value in (("source of the recipe", row.source), *row.values):
            members[field, value].append(place)
    largest = sorted(members, key=lambda group: (-len(members[group]), group))[:MOST_VALUES]
    for field, value in sorted(largest):
        places = np.array(members[field, value])
        for name, known in truth.items():
            clean = places[known[places] == 0]
            if len(clean):
                alarms = int((scores[name][clean] >= limits[name]).sum())
                yield {
                    "field": field,
                    "value": value,
                    "category": name,
                    "rows": len(clean),
                    "false_alarms": _share(alarms, len(clean)),
                }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, DIGITS) if whole else None
