"""Exact Jaccard similarities of chosen pairs of documents, with bounded memory.

The corpus is never held, nor are its shingles. Shard by shard, the shingle sets of the documents that are in a pair
go to a file, eight bytes a shingle; some hundred pairs at a time then read theirs. So each shard is read once, however
many pairs there are and wherever their documents lie.
"""

import os
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

_SHINGLES_AT_ONCE = 1 << 19  # of pairs: 4 MiB


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

    def sizes(self, documents: Numbers) -> Numbers:
        """The number of shingles of some documents."""
        return self._sizes[np.searchsorted(self._documents, documents)]

    def of(self, documents: Numbers) -> dict[int, UnsignedArray]:
        """The sets of some documents, in ascending order. Each file is opened once for those that it has."""
        places = np.searchsorted(self._documents, documents)
        files = self._files[places]
        found: dict[int, UnsignedArray] = {}
        for number in np.unique(files).tolist():
            here = np.flatnonzero(files == number)
            columns = (values.tolist() for values in (documents[here], self._starts[places[here]]))
            sizes = self._sizes[places[here]].tolist()
            with self._paths[number].open("rb") as file:
                for document, start, size in zip(*columns, sizes, strict=True):
                    found[document] = np.frombuffer(os.pread(file.fileno(), 8 * size, 8 * start), np.uint64)
        return found


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
            del group, texts  # before the next ones are read
    np.save(out / "sizes.npy", np.array(sizes, np.int64), allow_pickle=False)
    return {"documents": len(sizes)}


def exact_jaccards(pairs: Numbers, sets: ShingleSets) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of each pair of documents."""
    return np.fromiter(_jaccards(pairs, sets), np.float64, len(pairs))


def _jaccards(pairs: Numbers, sets: ShingleSets) -> Iterator[float]:
    sizes = sets.sizes(pairs).sum(axis=1)
    blocks = (np.cumsum(sizes) - sizes) // _SHINGLES_AT_ONCE
    for some in np.split(pairs, np.flatnonzero(np.diff(blocks)) + 1):
        found = sets.of(np.unique(some))
        for one, other in some.tolist():
            yield jaccard(found[one], found[other])


def jaccard(left: UnsignedArray, right: UnsignedArray) -> float:
    """Intersection over union of two sets given as sorted arrays without repeats; not both empty."""
    both = np.concatenate((left, right))
    both.sort(kind="stable")  # a merge, since both halves are sorted
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)
