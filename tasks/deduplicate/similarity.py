"""Exact Jaccard similarities of chosen pairs of documents, with bounded memory.

The corpus is never held. Pairs are worked off in blocks whose documents have at most BLOCK_BYTES of text; for a
block, the shards that hold its documents are read once, row batch by row batch, and only the shingle sets of its
documents are kept (about 1.5 bytes for a byte of text). Pairs of one connected component are together, so that a
document is read again only where a component does not fit into a block.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tasks.deduplicate.clusters import Numbers, components
from tasks.deduplicate.shingles import UnsignedArray, shingle_sets

BLOCK_BYTES = 128 << 20


def exact_jaccards(
    pairs: Numbers,
    shards: Sequence[Path],
    first_numbers: Numbers,
    sizes: Numbers,
    shingle_words: int,
    block_bytes: int = BLOCK_BYTES,
) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of each pair of documents.

    `first_numbers` holds the number of each shard's first document and, last, the number of documents; `sizes` the
    bytes of each document's text.
    """
    result = np.empty(len(pairs), np.float64)
    for block in _blocks(pairs, sizes, block_bytes):
        wanted = np.unique(pairs[block])
        sets = dict(zip(wanted.tolist(), _shingle_sets(wanted, shards, first_numbers, shingle_words), strict=True))
        for position, (left, right) in zip(block.tolist(), pairs[block].tolist(), strict=True):
            result[position] = jaccard(sets[left], sets[right])
    return result


def jaccard(left: UnsignedArray, right: UnsignedArray) -> float:
    """Intersection over union of two sets given as sorted arrays without repeats; not both empty."""
    both = np.concatenate((left, right))
    both.sort(kind="stable")  # a merge, since both halves are sorted
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)


def _blocks(pairs: Numbers, sizes: Numbers, block_bytes: int) -> Iterator[Numbers]:
    """Positions of pairs, component by component, cut where the text of the documents would pass the limit."""
    if not len(pairs):
        return
    labels = components(len(sizes), pairs)[pairs[:, 0]]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], labels))
    begin, total = 0, 0
    inside: set[int] = set()
    for position, pair in enumerate(pairs[order].tolist()):
        added = [number for number in pair if number not in inside]
        cost = sum(int(sizes[number]) for number in added)
        if position > begin and total + cost > block_bytes:
            yield order[begin:position]
            begin, total, added, inside = position, 0, pair, set()
            cost = sum(int(sizes[number]) for number in added)
        total += cost
        inside.update(added)
    yield order[begin:]


def _shingle_sets(
    wanted: Numbers, shards: Sequence[Path], first_numbers: Numbers, shingle_words: int
) -> Iterator[UnsignedArray]:
    """The shingle sets of the wanted documents (ascending numbers), in their order."""
    yield from shingle_sets(_texts(wanted, shards, first_numbers), shingle_words)


def _texts(wanted: Numbers, shards: Sequence[Path], first_numbers: Numbers) -> Iterator[str]:
    borders = np.searchsorted(wanted, first_numbers)
    for shard, path in enumerate(shards):
        rows = wanted[borders[shard] : borders[shard + 1]] - first_numbers[shard]
        if not len(rows):
            continue
        with pq.ParquetFile(path) as file:
            first = 0
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(batch))] - first
                yield from batch.column(0).take(inside).to_pylist()
                first += len(batch)
