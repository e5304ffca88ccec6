"""Lines and paragraphs that occur in many documents: licence headers, menus, disclaimers.

A line is known by its words in order (tasks/deduplicate/shingles.py): case, punctuation, comment signs and white
space do not matter, as in CCNet (Wenzek et al. 2020, arXiv 1911.00359, section 3.1), which compares paragraphs. A line
with fewer than `min_words` words is never counted. A paragraph is a run of lines that have words.

1. Each shard by itself (cached): the hashes of what occurs in the documents that stay, each once, with the number of
   these documents. Twelve bytes each.
2. All together, one range of hashes after another so that memory stays bounded: what occurs in enough documents.
3. Each shard by itself (cached by the hashes that it loses): the documents without them.

Two different lines share a hash with a chance of about 2^-64.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.documents import read_groups, write_table
from tasks.deduplicate.clusters import Numbers
from tasks.deduplicate.repeated import Counts, Repeated
from tasks.deduplicate.shingles import UnsignedArray, batches, encode, mix, word_hashes
from tasks.engine.context import Summary
from tasks.shards.drop_rows import drop_rows

SHOWN_CHARACTERS = 200  # of a line that is removed

LINES_SCHEMA = pa.schema(
    [
        pa.field("hash", pa.uint64(), nullable=False),
        pa.field("line", pa.string(), nullable=False),  # its beginning, where it was first removed
        pa.field("documents", pa.int64(), nullable=False),  # that have it, among those that were no duplicates
        pa.field("removed", pa.int64(), nullable=False),  # occurrences
    ]
)

_FACTOR = np.uint64(0xD1342543DE82EF95)  # odd


class Units(NamedTuple):
    """The lines or paragraphs of a batch of texts that have enough words, in order."""

    texts: Numbers  # number of the text
    begins: Numbers  # first line in the text
    ends: Numbers  # behind the last line
    hashes: UnsignedArray


def count_lines(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the hashes (`Counts`), with the number of the shard's documents that have each.

    `config` holds unit and min_words of RepeatedLines, and the rows that are `dropped`.
    """
    dropped, first = np.array(config["dropped"], np.int64), 0
    counts = Counts()
    for group in read_groups(inputs["documents"], ["text"]):
        stays = ~np.isin(np.arange(first, first + len(group)), dropped)
        texts = group["text"].filter(pa.array(stays)).combine_chunks()
        counts.add([_once_a_text(find_units(batch, config["unit"], config["min_words"])) for batch in batches(texts)])
        first += len(group)
    return counts.write(out)


def keep_lines(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without the `dropped` rows, the `repeated` lines and what is empty without these.

    `removed.parquet` (hash, line, removed) says which lines went. Summary: rows that were `emptied`, and counts.
    """
    edit = _Edit(config)
    first = 0
    gone = set(config["dropped"])
    for group in read_groups(inputs["documents"], ["text"]):
        start = first
        for batch in batches(group["text"].combine_chunks()):
            edit.batch(batch, start, gone)
            start += len(batch)
        first += len(group)
    dropped = sorted(gone.union(edit.emptied))
    documents = drop_rows(inputs["documents"], out / "documents.parquet", dropped, edit.texts)
    hashes = sorted(edit.removed)
    columns = [hashes, [edit.shown[one] for one in hashes], [edit.removed[one] for one in hashes]]
    types = (pa.uint64(), pa.string(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    write_table(out / "removed.parquet", pa.table(arrays, ["hash", "line", "removed"]))
    return {
        "documents": documents,
        "emptied": edit.emptied,
        "edited": len(edit.texts),
        "removed": sum(edit.removed.values()),
        "removed_bytes": edit.removed_bytes,
    }


class _Edit:
    """Takes repeated lines out of the texts of a shard, in order, and counts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._unit, self._min_words = config["unit"], config["min_words"]
        self._repeated = np.array(config["repeated"], np.uint64)
        self._first = set(config["first"] if config["keep_first"] else ())  # these stay when they come
        self.texts: dict[int, str] = {}
        self.emptied: list[int] = []
        self.removed: dict[int, int] = {}
        self.shown: dict[int, str] = {}
        self.removed_bytes = 0

    def batch(self, texts: pa.StringArray, start: int, gone: set[int]) -> None:
        """Work on the texts of the rows from `start` on, but for those that are gone."""
        units = find_units(texts, self._unit, self._min_words)
        hit = np.flatnonzero(np.isin(units.hashes, self._repeated))
        of_text: dict[int, list[tuple[int, int, int]]] = {}
        for place in hit.tolist():
            text, name = int(units.texts[place]), int(units.hashes[place])
            if text + start in gone:
                continue
            if name in self._first:
                self._first.remove(name)
            else:
                of_text.setdefault(text, []).append((int(units.begins[place]), int(units.ends[place]), name))
        for number, spans in of_text.items():
            self._take_out(number + start, texts[number].as_py(), spans)

    def _take_out(self, row: int, text: str, spans: Sequence[tuple[int, int, int]]) -> None:
        lines = text.split("\n")
        for begin, end, name in spans:
            self.removed[name] = self.removed.get(name, 0) + 1
            self.shown.setdefault(name, "\n".join(lines[begin:end]).strip()[:SHOWN_CHARACTERS])
        rest = without_lines(lines, [(begin, end) for begin, end, _ in spans])
        self.removed_bytes += len(text.encode()) - len(rest.encode())
        if word_hashes(encode([rest]))[1][0]:
            self.texts[row] = rest
        else:
            self.emptied.append(row)


def without_lines(lines: Sequence[str], spans: Sequence[tuple[int, int]]) -> str:
    """The text of the lines without some of them (ascending spans).

    Where a gap leaves lines behind it that are blank, or the same as the last one before it, these go with it: of two
    paragraphs' blank lines one stays, of a row of bare comment signs one.
    """
    kept: list[str] = []
    place = 0
    for begin, end in spans:
        kept += lines[place:begin]
        place = end
        last = kept[-1].strip() if kept else ""
        while place < len(lines) and lines[place].strip() == last and not any(map(str.isalnum, last)):
            place += 1
    return "\n".join([*kept, *lines[place:]])


def merge_removed(repeated: Repeated, removed: Iterator[pa.Table]) -> pa.Table:
    """What was removed of all shards in LINES_SCHEMA, the most frequent first."""
    lines: dict[int, str] = {}
    times: dict[int, int] = {}
    for table in removed:
        for row in table.to_pylist():
            lines.setdefault(row["hash"], row["line"])
            times[row["hash"]] = times.get(row["hash"], 0) + row["removed"]
    names = np.array(sorted(lines), np.uint64)
    documents = repeated.documents[np.searchsorted(repeated.hashes, names)]
    table = pa.table(
        [names, [lines[name] for name in names.tolist()], documents, [times[name] for name in names.tolist()]],
        schema=LINES_SCHEMA,
    )
    return table.sort_by([("removed", "descending"), ("hash", "ascending")])


def find_units(texts: pa.StringArray, unit: str, min_words: int) -> Units:
    """The lines or paragraphs (`unit`) of some texts that have so many words at least."""
    lists = pc.split_pattern(texts, "\n")
    borders = np.asarray(lists.offsets, np.int64)
    words, counts = word_hashes(encode(lists.flatten()))
    texts_of_lines = np.repeat(np.arange(len(texts)), np.diff(borders))
    worded = counts > 0
    joined = np.zeros(len(counts), bool)  # with the line before it
    if unit == "paragraph":
        joined[1:] = worded[1:] & worded[:-1] & (texts_of_lines[1:] == texts_of_lines[:-1])
    begins = np.flatnonzero(worded & ~joined)
    ends = np.flatnonzero(worded & ~np.append(joined[1:], False)) + 1
    first_words = (np.cumsum(counts) - counts)[begins]
    sizes = np.diff(np.append(first_words, len(words)))
    hashes = np.empty(0, np.uint64)
    if len(begins):
        powers = np.full(int(sizes.max()), _FACTOR)
        places = np.arange(len(words)) - np.repeat(first_words, sizes)
        hashes = mix(np.add.reduceat(words * np.cumprod(powers)[places], first_words))
    enough = sizes >= min_words
    owners = texts_of_lines[begins[enough]]
    starts = borders[owners] - borders[0]
    return Units(owners, begins[enough] - starts, ends[enough] - starts, hashes[enough])


def _once_a_text(units: Units) -> UnsignedArray:
    """The hashes, each once for each text that has it."""
    order = np.lexsort((units.hashes, units.texts))
    texts, hashes = units.texts[order], units.hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = (texts[1:] != texts[:-1]) | (hashes[1:] != hashes[:-1])
    return hashes[new]
