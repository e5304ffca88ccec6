"""Hashes that occur often enough in all shards together: of lines, of anchors of passages.

Each shard counts its own (`Counts`), twelve bytes for each different hash. `find_repeated` goes through all, one
range of hashes after another, so that memory stays bounded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.deduplicate.clusters import Numbers
from tasks.deduplicate.shingles import UnsignedArray
from tasks.engine.context import JobResult, Summary

RANGE_ENTRIES = 1 << 22  # hashes that are counted at once

_Counts = npt.NDArray[np.uint32]


class Counts:
    """How often each hash has come."""

    def __init__(self) -> None:
        self._hashes, self._counts = np.empty(0, np.uint64), np.empty(0, np.uint32)

    def add(self, found: Iterable[UnsignedArray]) -> None:
        """Count each hash of some arrays."""
        every = np.concatenate([self._hashes, *found])
        weights = np.concatenate([self._counts, np.ones(len(every) - len(self._hashes), np.uint32)])
        self._hashes, self._counts = _totals(every, weights)

    def write(self, out: Path) -> Summary:
        """Write `hashes.bin`, ascending uint64, and `counts.bin`, uint32. Summary: the number of different hashes."""
        self._hashes.tofile(out / "hashes.bin")
        self._counts.tofile(out / "counts.bin")
        return {"hashes": len(self._hashes)}


@dataclass(frozen=True)
class Repeated:
    """What occurs in enough documents of all: ascending hashes, the number of documents, and the first shard."""

    hashes: UnsignedArray
    documents: Numbers
    shards: Numbers

    def of_shard(self, shard: int, result: JobResult) -> dict[str, list[int]]:
        """What a shard loses, and of what it keeps the first occurrence, if such are kept."""
        here = np.isin(self.hashes, np.fromfile(result.files["hashes.bin"].path, np.uint64), assume_unique=True)
        return {
            "repeated": self.hashes[here].tolist(),
            "first": self.hashes[here & (self.shards == shard)].tolist(),
        }


def find_repeated(results: Sequence[JobResult], documents: int, range_entries: int = RANGE_ENTRIES) -> Repeated:
    """What occurs in at least so many documents. `results` are those of `Counts.write`, shard by shard."""
    total = sum(result.summary["hashes"] for result in results)
    ranges = -(-total // range_entries) or 1
    bounds = [(number << 64) // ranges for number in range(ranges)]
    found = [
        _repeated_between(results, low, high, documents) for low, high in zip(bounds, [*bounds[1:], None], strict=True)
    ]
    return Repeated(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _repeated_between(
    results: Sequence[JobResult], low: int, high: int | None, documents: int
) -> tuple[UnsignedArray, Numbers, Numbers]:
    """Hashes from `low` to below `high`, their documents, and the first shard that has them."""
    pieces: list[UnsignedArray] = []
    weights: list[_Counts] = []
    owners: list[npt.NDArray[np.int32]] = []
    for shard, result in enumerate(results):
        hashes = np.fromfile(result.files["hashes.bin"].path, np.uint64)
        begin = np.searchsorted(hashes, np.uint64(low))
        end = len(hashes) if high is None else np.searchsorted(hashes, np.uint64(high))
        pieces.append(hashes[begin:end].copy())
        weights.append(np.fromfile(result.files["counts.bin"].path, np.uint32)[begin:end].copy())
        owners.append(np.full(end - begin, shard, np.int32))
    every, counts, shards = np.concatenate(pieces), np.concatenate(weights), np.concatenate(owners)
    order = np.argsort(every, kind="stable")  # equal hashes stay in order of the shards
    every = every[order]
    heads = np.flatnonzero(np.concatenate(([True], every[1:] != every[:-1]))) if len(every) else np.empty(0, np.int64)
    sums: Numbers = np.add.reduceat(counts[order].astype(np.int64), heads) if len(heads) else heads
    enough = sums >= documents
    return every[heads][enough], sums[enough], shards[order][heads][enough].astype(np.int64)


def _totals(hashes: UnsignedArray, counts: _Counts) -> tuple[UnsignedArray, _Counts]:
    """The distinct hashes in ascending order, and the sum of the counts of each."""
    order = np.argsort(hashes, kind="stable")
    hashes, counts = hashes[order], counts[order]
    new = np.ones(len(order), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    heads = np.flatnonzero(new)
    return hashes[heads], np.add.reduceat(counts, heads, dtype=np.uint32) if len(heads) else counts
