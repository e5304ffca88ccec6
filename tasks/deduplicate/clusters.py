"""From bands to pairs of similar documents, and from these to who stays.

Documents are numbered by rank here, the one that would rather stay first. Everything works on arrays of a few dozen
bytes a document.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.deduplicate.shingles import UnsignedArray

Numbers = npt.NDArray[np.int64]


def ranking(*merits: npt.NDArray[Any]) -> Numbers:
    """The documents by rank: by the first merit, the more the better; where equal by the next; then the earlier.

    Held out comes before all that a user can set: what is measured on must not be trained on, and a held-out set must
    not shrink because a training document is longer.
    """
    keys = [~merit if merit.dtype == bool else -merit for merit in merits]
    return np.lexsort((np.arange(len(merits[0])), *reversed(keys)))


def equal_groups(high: UnsignedArray, low: UnsignedArray) -> Numbers:
    """For each document the first one with the same 128-bit digest, given as two halves."""
    order = np.lexsort((low, high))  # stable: equal digests stay in order
    new = _starts_run(high[order]) | _starts_run(low[order])
    first = np.empty(len(order), np.int64)
    first[order] = order[_run_heads(new)]
    return first


def candidate_pairs(bands: Iterable[UnsignedArray], documents: Numbers) -> Numbers:
    """Pairs (lower, higher) of documents that share a band, shape (pairs, 2), each once, in order.

    A bucket's members are linked to its first one and to their predecessor only: a bucket of n costs 2n pairs, not
    n^2 / 2. `bands` yields one key for each of `documents` (ascending numbers) at a time.
    """
    found = np.empty((0, 2), np.int64)
    for keys in bands:
        order = np.argsort(keys, kind="stable")
        new = _starts_run(keys[order])
        later = np.flatnonzero(~new)
        heads = _run_heads(new)[later]
        members, ordered = documents[order[later]], documents[order]
        links = [np.stack((ordered[other], members), axis=1) for other in (heads, later - 1)]
        found = unique_pairs(np.concatenate((found, *links)))
    return found


def unique_pairs(pairs: Numbers) -> Numbers:
    """The distinct pairs in ascending order."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    ordered = pairs[order]
    return ordered[_starts_run(ordered[:, 0]) | _starts_run(ordered[:, 1])]


def without(pairs: Numbers, known: Numbers, documents: int) -> Numbers:
    """The pairs that are not among the known ones. `documents` is the number of documents in all."""
    return pairs[~np.isin(codes(pairs, documents), codes(known, documents))]


def codes(pairs: Numbers, documents: int) -> Numbers:
    """A number for each pair, ascending where the pairs are."""
    return pairs[:, 0] * documents + pairs[:, 1]


def representatives(count: int, similar: Numbers, fixed: int = 0) -> Numbers:
    """For each document the one that stays in its place: itself, or the first that stays and is similar to it.

    The first `fixed` documents stay whatever they are like.

    `similar` holds pairs (lower, higher) in ascending order. Each document that goes is similar to the one that stays
    for it, and no two that stay are a pair: the greedy clustering by representatives (Hartigan 1975, the leader
    algorithm) of the order of rank.
    """
    stays = np.arange(count)
    first, counts = np.unique(similar[:, 0], return_counts=True)
    ends = np.cumsum(counts)
    for document, begin, end in zip(first.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
        if stays[document] == document:  # all before it have been decided: this is final
            others = similar[begin:end, 1]
            others = others[others >= fixed]
            stays[others] = np.minimum(stays[others], document)
    return stays


def _starts_run(ordered: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before it; the first always does."""
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


def _run_heads(new: npt.NDArray[np.bool_]) -> Numbers:
    """For each position the position at which its run starts."""
    return np.flatnonzero(new)[np.cumsum(new) - 1]
