"""Exact Jaccard similarities of chosen pairs of documents, with bounded memory.

The corpus is never held, nor are its shingles. Shard by shard, the shingle sets of the documents that are in a pair
go to a file, eight bytes a shingle; a pair then reads its two. So each shard is read once, however many pairs there
are and wherever their documents lie.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.deduplicate.clusters import Numbers
from tasks.deduplicate.shingles import UnsignedArray, shingle_sets
from tasks.deduplicate.signatures import document_groups
from tasks.engine.context import Summary

_PAIRS_AT_ONCE = 1 << 14  # as Python numbers


class ShingleSets:
    """The shingle sets of some documents, read from the files in which `write_sets` has put them.

    `documents` are the numbers of the documents in ascending order, and those of the folders' files one after another.
    """

    def __init__(self, documents: Numbers, sets: Sequence[Path], sizes: Sequence[Path]) -> None:
        counts = [np.load(path, allow_pickle=False) for path in sizes]
        self._documents, self._paths = documents, sets
        self._files = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
        self._sizes = np.concatenate([np.empty(0, np.int64), *counts])
        self._starts = np.concatenate([np.empty(0, np.int64), *(np.cumsum(count) - count for count in counts)])

    def __getitem__(self, document: int) -> UnsignedArray:
        place = int(np.searchsorted(self._documents, document))
        path, start, size = self._paths[self._files[place]], int(self._starts[place]), int(self._sizes[place])
        return np.fromfile(path, np.uint64, size, offset=8 * start)


def write_sets(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the shingle sets of some rows of a shard, or of an external file.

    `config` holds `rows` in ascending order, `shingle_words` and, for an external file, its `label`.

    `sets.bin` holds the hashes, uint64, set after set; `sizes.npy` the number of each.
    """
    rows, first = np.array(config["rows"], np.int64), 0
    sizes = []
    with (out / "sets.bin").open("wb") as file:
        for group in document_groups(inputs["documents"], config.get("label", "")):
            inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(group))] - first
            texts = group["text"].take(pa.array(inside)).combine_chunks()
            for found in shingle_sets(texts, config["shingle_words"]):
                sizes.append(len(found))
                file.write(found.tobytes())
            first += len(group)
    np.save(out / "sizes.npy", np.array(sizes, np.int64), allow_pickle=False)
    return {"documents": len(sizes)}


def exact_jaccards(pairs: Numbers, sets: ShingleSets) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of each pair of documents; quickest where pairs with the same first are together."""
    return np.fromiter(_jaccards(pairs, sets), np.float64, len(pairs))


def _jaccards(pairs: Numbers, sets: ShingleSets) -> Iterator[float]:
    held, left = -1, np.empty(0, np.uint64)
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        for one, other in pairs[begin : begin + _PAIRS_AT_ONCE].tolist():
            if one != held:
                held, left = one, sets[one]
            yield jaccard(left, sets[other])


def jaccard(left: UnsignedArray, right: UnsignedArray) -> float:
    """Intersection over union of two sets given as sorted arrays without repeats; not both empty."""
    both = np.concatenate((left, right))
    both.sort(kind="stable")  # a merge, since both halves are sorted
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)
