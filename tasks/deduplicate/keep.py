"""By what a document would rather stay than another that is like it: `deduplicate.keep`."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.documents import read_groups
from storage.errors import DataError
from tasks.deduplicate.config import DeduplicateConfig

Merit = npt.NDArray[np.generic]

SHOWN = 12


def merits(config: DeduplicateConfig, shards: Sequence[Path], lengths: npt.NDArray[np.int64]) -> tuple[Merit, ...]:
    """What speaks for each document, weightiest first, the more the better; the earlier stays where all are equal."""
    if config.keep == "earliest":
        return ()
    if config.keep == "best_score":
        return _scores(shards, config.score_field), lengths
    if config.keep == "source_priority":
        return _priorities(shards, config.source_priority), lengths
    return (lengths,)


def _scores(shards: Sequence[Path], field: str) -> Merit:
    """The number in each document's metadata; a document without one comes after all others."""
    names: set[str] = set()
    scores = np.fromiter((_score(row, field, names) for row in _column(shards, "metadata")), np.float64)
    if len(scores) and np.isneginf(scores).all():
        known = ", ".join(sorted(names)[:SHOWN]) or "nothing"
        raise DataError(
            f"deduplicate.score_field: no document has a number {field} in its metadata; they hold {known}. "
            "Name a field that holds a number, or set deduplicate.keep to another rule."
        )
    return scores


def _score(metadata: str, field: str, names: set[str]) -> float:
    values: dict[str, Any] = json.loads(metadata)
    names.update(values)
    value = values.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return -math.inf
    return float(value)


def _priorities(shards: Sequence[Path], names: Sequence[str]) -> Merit:
    """The first named source has the highest number; sources that are not named have 0."""
    places = {name: len(names) - place for place, name in enumerate(names)}
    seen: set[str] = set()

    def numbers(sources: Iterable[str]) -> Iterator[int]:
        for source in sources:
            seen.add(source)
            yield places.get(source, 0)

    priorities = np.fromiter(numbers(_column(shards, "source")), np.int64)
    if unknown := [name for name in names if name not in seen]:
        raise DataError(
            f"deduplicate.source_priority: no document is of {', '.join(unknown)}; "
            f"the sources are {', '.join(sorted(seen)[:SHOWN])}. Name some of these."
        )
    return priorities


def _column(shards: Sequence[Path], name: str) -> Iterator[str]:
    for shard in shards:
        for group in read_groups(shard, [name]):
            yield from group[name].to_pylist()
