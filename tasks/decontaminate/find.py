"""Which runs of a shard's texts are in the index, and what comes of it for whole items.

A text holds an item where runs that both have cover `min_overlap` of the item's words: the share of Llama 2 (Touvron et
al. 2023, A.6) and Tulu 3 (Lambert et al. 2024, section 3.2), by the longer runs of GPT-3. Of the words only those count
that are in a run which may count.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.documents import PAIRS_SCHEMA, Pair, read_tables, row_pair
from tasks.decontaminate.index import Index, read_index
from tasks.decontaminate.runs import Batch, Flags, Numbers, UnsignedArray, read_batches
from tasks.engine.context import Summary

MATCHES = "matches.npy"
INDEX = "index/"  # before the names of its files among the inputs of a job
ROWS_AT_ONCE = 256
_BITS = (16, 27)  # least and most of the table that tells most runs apart
_SPARSE = 16  # entries of that table a run


def find_matches(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write MATCHES, int64 (matches, 4): row, first word, words, hash number; `config` as for `build_index`, and the
    `part` of which the shard is."""
    files = tuple((name, path) for name, path in inputs.items() if name.startswith(INDEX))
    search = _search_of(files, config["run_words"], config["least_words"])
    found = [np.empty((0, 4), np.int64)]
    first = 0
    for texts in texts_of_shard(inputs["rows"], config["part"]):
        for place, batch in read_batches(texts):
            found.append(search.matches(batch) + np.array([first + place, 0, 0, 0]))
        first += len(texts)
    matches = np.concatenate(found)
    np.save(out / MATCHES, matches[np.lexsort((matches[:, 1], matches[:, 0]))], allow_pickle=False)
    return {"texts": first}


def texts_of_shard(path: Path, part: str) -> Iterator[pa.StringArray]:
    """The texts of a shard, some rows at a time: of a pair all that is said in it."""
    if part == "documents":
        for table in read_tables(path, ["text"], ROWS_AT_ONCE):
            yield table["text"].combine_chunks()
        return
    for table in read_tables(path, PAIRS_SCHEMA.names, ROWS_AT_ONCE):
        yield pa.array([_said(row_pair(row)) for row in table.to_pylist()], pa.string())


def _said(pair: Pair) -> str:
    return "\n".join([*(message.content for message in pair.asked), pair.answer, pair.rejected])


@functools.lru_cache(maxsize=1)  # a process searches one shard after another
def _search_of(files: tuple[tuple[str, Path], ...], run_words: int, least_words: int) -> "_Search":
    index = read_index({name.removeprefix(INDEX): path for name, path in files})
    return _Search(index, run_words, least_words)


class _Search:
    """An index in the form in which it is searched: a table by the upper bits of a hash rules most runs out."""

    def __init__(self, index: Index, run_words: int, least_words: int) -> None:
        self._index = index
        self._hashes, self._anchors = np.array(index.hashes), np.array(index.anchors)
        self._run, self._least = float(run_words), float(least_words)
        self._tables = {id(one): _table(one) for one in (self._hashes, self._anchors)}

    def matches(self, batch: Batch) -> Numbers:
        """The matches of a batch, its own texts being the rows."""
        found = [self._whole_runs(batch)]
        if len(self._anchors):
            found += self._short_items(batch)
        starts, lengths, numbers = (np.concatenate(column) for column in zip(*found, strict=True))
        rows = np.searchsorted(batch.ends, starts, side="right")
        begins = np.concatenate(([0], batch.ends))[rows]
        return np.column_stack((rows, starts - begins, lengths, numbers))

    def _whole_runs(self, batch: Batch) -> tuple[Numbers, Numbers, Numbers]:
        lengths = batch.lengths(self._run)
        starts = np.flatnonzero(lengths)
        return self._known(self._hashes, batch, starts, lengths[starts])

    def _short_items(self, batch: Batch) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        lengths = batch.lengths(self._least)
        starts = np.flatnonzero(lengths)
        begun, _, _ = self._known(self._anchors, batch, starts, lengths[starts])
        ends = batch.ends[np.searchsorted(batch.ends, begun, side="right")]
        for length in self._index.short_lengths.tolist():
            fitting = begun[begun + length <= ends]
            yield self._known(self._hashes, batch, fitting, np.full(len(fitting), length))

    def _known(
        self, wanted: UnsignedArray, batch: Batch, starts: Numbers, lengths: Numbers
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Start, length and number among the `wanted` of those runs that are one of them."""
        table = self._tables[id(wanted)]
        if not len(wanted) or not len(starts):
            return (np.empty(0, np.int64),) * 3
        hashes = batch.runs(starts, lengths)
        likely = np.flatnonzero(table[hashes >> _shift(table)])
        hashes, starts, lengths = hashes[likely], starts[likely], lengths[likely]
        numbers = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        same = wanted[numbers] == hashes
        return starts[same], lengths[same], numbers[same]


def _table(hashes: UnsignedArray) -> Flags:
    least, most = _BITS
    bits = min(max((_SPARSE * len(hashes)).bit_length(), least), most)
    table = np.zeros(1 << bits, bool)
    table[hashes >> np.uint64(64 - bits)] = True
    return table


def _shift(table: Flags) -> np.uint64:
    return np.uint64(64 - (len(table).bit_length() - 1))


@dataclass(frozen=True, slots=True)
class Held:
    """An item that a text holds: `share` of its words, and where in the text they are (first word, one after)."""

    row: int
    item: int
    share: float
    spans: tuple[tuple[int, int], ...]


class Judge:
    """Which items texts hold; `counts[r]` says whether run number r may count."""

    def __init__(self, index: Index, counts: Flags, min_overlap: float) -> None:
        self._index, self._counts, self._min_overlap = index, counts, min_overlap
        self._order = np.argsort(index.numbers, kind="stable")
        self._places = np.searchsorted(index.numbers[self._order], np.arange(len(index.hashes) + 1))
        self._items = index.items_of
        self.words = np.zeros(len(index.firsts) - 1, np.int64)  # of each item, those that can be found
        items, covered = self._covered(np.flatnonzero(counts[index.numbers]))
        self.words[items] = covered

    def held(self, matches: Numbers) -> Iterator[Held]:
        """The items that the texts of a shard hold, in order of rows and items."""
        matches = matches[self._counts[matches[:, 3]]] if len(matches) else matches
        for text in np.split(matches, np.flatnonzero(np.diff(matches[:, 0])) + 1) if len(matches) else ():
            yield from self._held_in(text)

    def _held_in(self, matches: Numbers) -> Iterator[Held]:
        numbers = np.unique(matches[:, 3])
        begins, ends = self._places[numbers], self._places[numbers + 1]
        sizes = ends - begins
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        runs = self._order[np.repeat(begins, sizes) + within]
        for item, covered in zip(*(column.tolist() for column in self._covered(runs)), strict=True):
            share = covered / int(self.words[item])
            if share >= self._min_overlap - 1e-9:
                own = self._index.numbers[self._index.firsts[item] : self._index.firsts[item + 1]]
                yield Held(int(matches[0, 0]), item, share, _spans(matches[np.isin(matches[:, 3], own)]))

    def _covered(self, runs: Numbers) -> tuple[Numbers, Numbers]:
        """The items of some runs, ascending, and how many words of each are in some of these runs."""
        index = self._index
        runs = runs[np.lexsort((index.starts[runs], self._items[runs]))]
        items, starts = self._items[runs].astype(np.int64), index.starts[runs].astype(np.int64)
        ends = starts + index.lengths[runs]
        apart = items * (int(ends.max(initial=0)) + 1)  # so that no item reaches into the next
        before = np.maximum.accumulate(np.concatenate(([0], apart + ends)))[:-1]
        gains = np.maximum(apart + ends - np.maximum(apart + starts, before), 0)
        found, numbers = np.unique(items, return_inverse=True)
        return found, np.bincount(numbers, gains, len(found)).astype(np.int64)


def _spans(matches: Numbers) -> tuple[tuple[int, int], ...]:
    """The words of a text that are in some match, as spans that do not touch."""
    spans: list[tuple[int, int]] = []
    for start, length in matches[np.argsort(matches[:, 1], kind="stable"), 1:3].tolist():
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], start + length))
        else:
            spans.append((start, start + length))
    return tuple(spans)
