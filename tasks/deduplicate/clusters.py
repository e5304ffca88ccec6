"""From bands to clusters of duplicates, and the one member of each that stays.

Documents are numbered through all shards in order. Everything here works on arrays of a few dozen bytes a document.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tasks.deduplicate.shingles import UnsignedArray

Numbers = npt.NDArray[np.int64]


def equal_groups(high: UnsignedArray, low: UnsignedArray) -> Numbers:
    """For each document the first one (the lowest number) with the same 128-bit digest, given as two halves."""
    order = np.lexsort((low, high))  # stable: equal digests stay in order of number
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


def components(count: int, pairs: Numbers) -> Numbers:
    """For each document the number of its connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def kept_members(labels: Numbers, heldout: npt.NDArray[np.bool_], sizes: Numbers) -> Numbers:
    """For each document the member of its cluster that stays: the longest, then the earlier.

    Where a cluster has held-out members, one of these stays: what is measured on must not be trained on, and a
    held-out set must not shrink because a training document is longer.
    """
    order = np.lexsort((np.arange(len(labels)), -sizes, ~heldout, labels))
    kept = np.empty(len(order), np.int64)
    kept[order] = order[_run_heads(_starts_run(labels[order]))]
    return kept


def _starts_run(ordered: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before it; the first always does."""
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


def _run_heads(new: npt.NDArray[np.bool_]) -> Numbers:
    """For each position the position at which its run starts."""
    return np.flatnonzero(new)[np.cumsum(new) - 1]
