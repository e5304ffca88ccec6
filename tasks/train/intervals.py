"""How sure figures of held-out data are: the intervals of evaluation (tasks/statistics), drawn over documents
or groups, and paired where the same items were measured twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from storage.files import read_json
from tasks.engine.context import Summary

if TYPE_CHECKING:
    from tasks.statistics.compare import Kind
    from tasks.statistics.intervals import Floats


def of_text(work: Path) -> Summary:
    """Interval of how bits per byte of held-out documents have changed, drawn over these."""
    before, after = (_outcomes(work, moment) for moment in ("before", "after"))
    documents = list(map(str, range(len(after))))
    return _change("bits_per_byte_change", tuple(before.T), tuple(after.T), documents, "ratio")


def of_words(work: Path, *, begun: bool) -> Summary:
    """Intervals of the share of hidden words that is filled in, of what it is over that of always saying the commonest,
    and, where training has `begun` with a model, over the share before."""
    documents, right, frequent = _outcomes(work, "after").T
    groups = documents.tolist()
    found = _interval("filled_in", right, groups) | _difference("over_most_frequent", frequent, right, groups)
    if begun:
        found |= _difference("filled_in_change", _outcomes(work, "before")[:, 1], right, groups)
    return found


def of_preferences(work: Path, groups: Sequence[str]) -> Summary:
    """Intervals of the share of held-out preferences that is rewarded rightly, and of how it and the margin have
    changed."""
    (won_before, gaps_before), (won, gaps) = (_outcomes(work, moment).T for moment in ("before", "after"))
    return (
        _interval("win_rate", won, groups)
        | _difference("win_rate_change", won_before, won, groups)
        | _difference("margin_change", gaps_before, gaps, groups, kind="ratio")
    )


def _interval(name: str, values: "Floats", groups: Sequence[Any]) -> Summary:
    from tasks.statistics.intervals import as_clusters, wilson

    return _ends(name, *(wilson(values, as_clusters(list(groups)))[1:] if len(set(groups)) > 1 else (None, None)))


def _difference(name: str, old: "Floats", new: "Floats", groups: Sequence[Any], kind: "Kind" = "proportion") -> Summary:
    """How much larger the mean of `new` is than that of `old`."""
    import numpy as np

    ones = np.ones(len(new))
    return _change(name, (old, ones), (new, ones), list(map(str, groups)), kind)


def _change(name: str, old: Sequence["Floats"], new: Sequence["Floats"], groups: list[str], kind: "Kind") -> Summary:
    """How much larger a figure is, of (amounts, weights) of the same items."""
    from tasks.statistics.compare import Answers, compare
    from tasks.statistics.intervals import rounded

    found = compare(Answers(*old), Answers(*new), groups, kind=kind, higher_is_better=True)
    return {name: rounded(found.difference), **_ends(name, found.low, found.high)}


def _ends(name: str, low: float | None, high: float | None) -> Summary:
    """Null where all items are of one group."""
    from tasks.statistics.intervals import rounded

    ends = (("low", low), ("high", high))
    return {f"{name}_{end}": None if value is None else rounded(value) for end, value in ends}


def _outcomes(work: Path, moment: str) -> "Floats":
    """What came of each held-out item, (items, columns)."""
    import numpy as np

    from model.output import outcomes_file

    path = outcomes_file(work, moment, "heldout")
    rows = read_json(path)
    if rows is None:
        raise DataError(
            f"{path}: the outcomes of held-out data are missing or damaged; run the stage again with --force"
        )
    return np.asarray(rows, np.float64)
