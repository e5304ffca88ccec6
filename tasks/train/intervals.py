"""How sure figures of held-out data are: the intervals of evaluation (tasks/statistics), drawn over documents
or groups, and paired where the same items were measured twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from storage.files import read_json
from tasks.engine.context import Summary

if TYPE_CHECKING:
    from tasks.statistics.intervals import Floats


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
    """Intervals of the share of held-out preferences that is rewarded rightly, and of how it has changed."""
    before, after = (_outcomes(work, moment)[:, 0] for moment in ("before", "after"))
    return _interval("win_rate", after, groups) | _difference("win_rate_change", before, after, groups)


def _interval(name: str, values: "Floats", groups: Sequence[Any]) -> Summary:
    from tasks.statistics.intervals import as_clusters, wilson

    return _ends(name, *(wilson(values, as_clusters(list(groups)))[1:] if len(set(groups)) > 1 else (None, None)))


def _difference(name: str, old: "Floats", new: "Floats", groups: Sequence[Any]) -> Summary:
    """How much larger the mean of `new` is than that of `old`."""
    import numpy as np

    from tasks.statistics.compare import Answers, compare
    from tasks.statistics.intervals import rounded

    ones = np.ones(len(new))
    found = compare(
        Answers(old, ones), Answers(new, ones), list(map(str, groups)), kind="proportion", higher_is_better=True
    )
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
