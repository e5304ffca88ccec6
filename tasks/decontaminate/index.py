"""What texts are searched for: the runs of all items, by their hashes, and where in which item each stands.

An item of fewer words than a run is one run by itself; texts are searched for its first `least_words` words, and where
these are, for all of it. A run that is in more than half of a benchmark's items is the form of its questions
(`The following are multiple choice questions about ...`) and no part of any.

Memory: 20 bytes a word of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.documents import read_rows, read_tables, write_rows
from tasks.decontaminate.runs import Flags, Numbers, UnsignedArray, read_batches
from tasks.engine.context import Summary

ROUNDING = 1e-6  # of sums of fractions
FORM_SHARE = 0.5  # of a benchmark's items
LEAST_ITEMS = 10  # of a benchmark of which a form can be told
ARRAYS = ("hashes", "anchors", "short_lengths", "firsts", "numbers", "starts", "lengths")
NAMES = "names.parquet"
NAMES_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("benchmark", "item")])


@dataclass(frozen=True, slots=True)
class Index:
    """`hashes` ascend, each once. Run r of all items, those of item i being `firsts[i]` to `firsts[i + 1]`, has the
    hash number `numbers[r]`, begins at word `starts[r]` and has `lengths[r]` words. `anchors` are the beginnings of
    short items, ascending, which have `short_lengths` words."""

    hashes: UnsignedArray
    anchors: UnsignedArray
    short_lengths: Numbers
    firsts: Numbers
    numbers: Numbers
    starts: Numbers
    lengths: Numbers

    @property
    def items_of(self) -> Numbers:
        """The item of each run."""
        return np.repeat(np.arange(len(self.firsts) - 1), np.diff(self.firsts))


def read_index(files: Mapping[str, Path]) -> Index:
    """An index that `build_index` has written; its arrays stay on disk until they are looked at."""
    return Index(*(np.load(files[f"{name}.npy"], mmap_mode="r", allow_pickle=False) for name in ARRAYS))


def read_names(files: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Benchmark and item of each item of an index."""
    return [(row["benchmark"], row["item"]) for row in read_rows(files[NAMES])]


def build_index(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write the index of the items in `inputs`; `config` has `run_words` and `least_words`."""
    made = _Made(config["run_words"], config["least_words"])
    for path in (inputs[name] for name in sorted(inputs)):
        for table in read_tables(path, ["text"], 1024):
            made.add(table["text"].combine_chunks())
    names = [row for name in sorted(inputs) for row in read_rows(inputs[name], NAMES_SCHEMA.names)]
    write_rows(out / NAMES, names, NAMES_SCHEMA)
    runs, sizes = made.joined()
    kept = ~_forms(runs[0], sizes, [row["benchmark"] for row in names])
    firsts = np.concatenate(([0], np.cumsum(sizes)))
    firsts = np.concatenate(([0], np.cumsum(kept)))[firsts]
    hashes, numbers = np.unique(runs[0][kept], return_inverse=True)
    anchors = np.unique(np.array(made.anchors, np.uint64))
    short = np.unique(np.array(made.short_lengths, np.int64))
    index = Index(hashes, anchors, short, firsts, numbers.astype(np.int32), runs[1][kept], runs[2][kept])
    for name in ARRAYS:
        np.save(out / f"{name}.npy", getattr(index, name), allow_pickle=False)
    return {"items": len(names), "runs": len(hashes)}


class _Made:
    """The runs of items, as they come."""

    def __init__(self, run_words: int, least_words: int) -> None:
        self.anchors: list[int] = []
        self.short_lengths: list[int] = []
        self._run, self._least = float(run_words), float(least_words)
        self._pieces: list[tuple[UnsignedArray, Numbers, Numbers]] = []
        self._sizes: list[int] = []

    def add(self, texts: pa.StringArray) -> None:
        for _, batch in read_batches(texts):
            lengths = batch.lengths(self._run)
            begins = np.concatenate(([0], batch.ends[:-1]))
            anchors = batch.lengths(self._least)
            for text, (begin, end) in enumerate(zip(begins.tolist(), batch.ends.tolist(), strict=True)):
                starts = np.arange(begin, end)[lengths[begin:end] > 0]
                own = lengths[starts]
                size = batch.size_of(text)
                if size < self._least - ROUNDING:
                    starts = own = np.empty(0, np.int64)
                elif not len(starts):
                    starts, own = np.array([begin]), np.array([end - begin])
                    self.anchors += batch.runs(starts, anchors[starts]).tolist()
                    self.short_lengths.append(end - begin)
                self._pieces.append((batch.runs(starts, own), (starts - begin).astype(np.int32), own.astype(np.int32)))
                self._sizes.append(len(starts))

    def joined(self) -> tuple[tuple[UnsignedArray, Numbers, Numbers], Numbers]:
        """Hash, start and length of each run, and the number of runs of each item."""
        nothing = (np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, np.int32))
        columns = zip(*[nothing, *self._pieces], strict=True)
        hashes, starts, lengths = (np.concatenate(column) for column in columns)
        return (hashes, starts, lengths), np.array(self._sizes, np.int64)


def _forms(hashes: UnsignedArray, sizes: Numbers, benchmarks: list[str]) -> Flags:
    """Whether each run is in more than half of its benchmark's items. Items of a benchmark follow each other."""
    form = np.zeros(len(hashes), bool)
    firsts = np.concatenate(([0], np.cumsum(sizes)))
    item = 0
    for _, group in groupby(benchmarks):
        count = len(list(group))
        here = slice(int(firsts[item]), int(firsts[item + count]))
        if count >= LEAST_ITEMS:
            owners = np.repeat(np.arange(count), sizes[item : item + count])
            distinct, numbers = np.unique(hashes[here], return_inverse=True)
            pairs = np.unique(numbers.astype(np.int64) * count + owners) // count
            form[here] = np.bincount(pairs, minlength=len(distinct))[numbers] > FORM_SHARE * count
        item += count
    return form
