"""Passages that have occurred before, of a set number of characters or more: exact substrings of the whole corpus.

A window is so many characters in a row of one document. A window goes where the same characters have occurred before
without overlapping it, in a held-out document or earlier in the order of the documents; of longer passages all windows
go. So a repeated passage goes as a whole, whatever stands around it (Lee et al. 2021, arXiv 2107.06499, section 4.1,
without their suffix array of all text).

1. Each shard by itself (cached): its anchors. An anchor is the run of half a window whose hash is the lowest of some
   window (winnowing: Schleimer, Wilkerson and Aiken 2003), so that equal windows have equal anchors. About four of
   them for each length of a window, twelve bytes each.
2. All together: which anchors occur twice. Each shard by itself (cached by these): the hashes of all windows that
   hold one, 16 bytes each; other windows occur once.
3. All together, one range of hashes after another: which windows have occurred before. Each shard by itself (cached by
   what it loses): its documents without them.

Windows are told apart by 126 bits, of polynomials modulo two primes and 2^64; the characters are not compared again.
Memory: a range, and a byte for each window that holds a repeated anchor. Time is linear in the text.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.documents import HELDOUT, read_tables, write_table
from tasks.deduplicate.clusters import Numbers
from tasks.deduplicate.lines import SHOWN_CHARACTERS
from tasks.deduplicate.repeated import RANGE_ENTRIES, Counts
from tasks.deduplicate.shingles import UnsignedArray, batches, encode, mix, word_hashes
from tasks.engine.context import JobResult, Summary
from tasks.shards.drop_rows import drop_rows

PASSAGES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the document that loses it
        pa.field("begin", pa.int64(), nullable=False),  # first character in its text as it was
        pa.field("characters", pa.int64(), nullable=False),
        pa.field("passage", pa.string(), nullable=False),  # its beginning
    ]
)

_BLOCK = 1 << 17  # windows that are hashed at once
_PRIMES = (2**31 - 1, 2**31 - 19)
_BASES = (1_103_515_245, 1_220_703_125)  # one for each prime
_FACTOR = 0xD1342543DE82EF95  # odd, modulo 2^64

_Characters = npt.NDArray[np.uint32]
_Flags = npt.NDArray[np.bool_]


class _Batch(NamedTuple):
    """Some texts in one array of characters; `borders` are where each begins, and where the last ends."""

    first_row: int
    characters: _Characters
    borders: Numbers
    heldout: _Flags


def find_anchors(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the anchors (`Counts`), with how often each occurs in the shard.

    `config` holds `min_characters`, the length of a window.
    """
    counts = Counts()
    for batch in _batches(inputs["documents"]):
        counts.add(found for _, found in _anchors(batch, config["min_characters"]))
    return counts.write(out)


def hash_windows(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the windows that hold a repeated anchor, in order.

    `windows.npy` has runs of windows as (row, first start, end of the starts, whether held out), in characters of the
    row's text; `high.bin` and `low.bin`, uint64, the hash of each window. `config` holds `min_characters`, and
    `repeated`, ascending hashes of the anchors that occur twice.
    """
    size, repeated = config["min_characters"], np.array(config["repeated"], np.uint64)
    runs = [np.empty((0, 4), np.int64)]
    windows = 0
    with (out / "high.bin").open("wb") as highs, (out / "low.bin").open("wb") as lows:
        for batch in _batches(inputs["documents"]) if len(repeated) else ():
            found = _runs_around(batch, repeated, size)
            rows = np.searchsorted(batch.borders, found[:, 0], side="right") - 1
            places = found - batch.borders[rows][:, None]
            runs.append(np.column_stack((rows + batch.first_row, places, batch.heldout[rows])))
            for start, end in found.tolist():
                for high, low in _hashes(batch.characters[start : end + size - 1], size):
                    highs.write(high.tobytes())
                    lows.write(low.tobytes())
                    windows += len(high)
    np.save(out / "windows.npy", np.concatenate(runs), allow_pickle=False)
    return {"windows": windows}


def find_passages(results: Sequence[JobResult], size: int, range_entries: int = RANGE_ENTRIES) -> list[Numbers]:
    """What each shard loses: (row, begin, end) in characters, ascending. `results` are those of `hash_windows`."""
    total = sum(result.summary["windows"] for result in results)
    ranges = -(-total // range_entries) or 1
    bounds = [(number << 63) // ranges for number in range(ranges + 1)]  # the upper half of a hash has 63 bits
    runs = [np.load(result.files["windows.npy"].path, allow_pickle=False) for result in results]
    again = [np.zeros(result.summary["windows"], bool) for result in results]
    for low, high in itertools.pairwise(bounds):
        _mark_repeated(results, runs, again, (low, high), size)
    return [_spans(run, flags, size) for run, flags in zip(runs, again, strict=True)]


def drop_passages(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without `config["passages"]`, (row, begin, end), and without what is then empty.

    `removed.parquet` (PASSAGES_SCHEMA) says which went. Summary: ids that were `emptied`, and counts.
    """
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row, begin, end in config["passages"]:
        wanted.setdefault(row, []).append((begin, end))
    texts: dict[int, str] = {}
    emptied: dict[int, str] = {}
    removed: list[dict[str, Any]] = []
    first = lost = 0
    for table in read_tables(inputs["documents"], ["id", "text"]):
        for row in range(first, first + len(table)):
            if row not in wanted:
                continue
            identity, text = (table[name][row - first].as_py() for name in ("id", "text"))
            rest = without_passages(text, wanted[row])
            lost += len(text.encode()) - len(rest.encode())
            for begin, end in wanted[row]:
                shown = text[begin : min(end, begin + SHOWN_CHARACTERS)]
                removed.append({"id": identity, "begin": begin, "characters": end - begin, "passage": shown})
            if word_hashes(encode([rest]))[1][0]:
                texts[row] = rest
            else:
                emptied[row] = identity
        first += len(table)
    documents = drop_rows(inputs["documents"], out / "documents.parquet", emptied, texts)
    write_table(out / "removed.parquet", pa.Table.from_pylist(removed, schema=PASSAGES_SCHEMA))
    return {
        "documents": documents,
        "emptied": list(emptied.values()),
        "edited": len(texts),
        "removed": len(removed),
        "removed_bytes": lost,
    }


def without_passages(text: str, passages: Sequence[tuple[int, int]]) -> str:
    """The text without some spans (ascending); what is left of a word on one side does not join that on the other."""
    kept = ""
    for begin, end in zip(
        [0, *(end for _, end in passages)], [*(begin for begin, _ in passages), len(text)], strict=True
    ):
        piece = text[begin:end]
        apart = kept and piece and not kept[-1].isspace() and not piece[0].isspace()
        kept += "\n" * bool(apart) + piece
    return kept


def _batches(path: Path) -> Iterator[_Batch]:
    """The texts of a shard in order, some hundred kilobytes at a time."""
    first = 0
    for table in read_tables(path, ["text", "split"]):
        heldout = pc.equal(table["split"], HELDOUT).to_numpy()
        start = 0
        for batch in batches(table["text"].combine_chunks()):
            texts = batch.to_pylist()
            characters = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
            borders = np.cumsum([0, *map(len, texts)])
            yield _Batch(first + start, characters, borders, heldout[start : start + len(texts)])
            start += len(texts)
        first += len(table)


def _anchors(batch: _Batch, size: int) -> Iterator[tuple[Numbers, UnsignedArray]]:
    """Where the anchors of a batch begin, and their hashes; each once.

    Those of windows over two documents are among them, which makes work and no difference.
    """
    length = size // 2
    before = np.empty(0, np.int64)
    for start in range(0, len(batch.characters) - size + 1, _BLOCK):
        hashes = _rolled(batch.characters[start : start + _BLOCK + size - 1], length)
        width = size - length + 1  # anchors that a window could have
        lowest = _sliding(hashes, width, np.minimum)
        padding = np.zeros(width - 1, np.uint64)
        places = np.flatnonzero(_sliding(np.concatenate((padding, lowest, padding)), width, np.maximum) == hashes)
        new = ~np.isin(places + start, before, assume_unique=True)  # blocks overlap
        before = places + start
        yield before[new], hashes[places[new]]


def _rolled(characters: _Characters, length: int) -> UnsignedArray:
    """A 64-bit hash of so many characters from each character on."""
    powers, inverse = _powers()
    sums = np.zeros(len(characters) + 1, np.uint64)
    np.cumsum(characters * powers[: len(characters)], out=sums[1:])
    windows = sums[length:] - sums[:-length]
    return mix(windows * inverse[: len(windows)])


@functools.cache
def _powers() -> tuple[UnsignedArray, UnsignedArray]:
    """Powers of the factor modulo 2^64, and their inverses."""
    factors = (_FACTOR, pow(_FACTOR, -1, 1 << 64))
    powers, inverse = (np.cumprod(np.full(2 * _BLOCK, one, np.uint64), dtype=np.uint64) for one in factors)
    return powers, inverse


def _sliding(values: UnsignedArray, width: int, better: np.ufunc) -> UnsignedArray:
    """The least or the greatest (`better`) of so many values from each on, in as many passes as `width` has bits."""
    reach = 1
    while 2 * reach <= width:
        values = better(values[:-reach], values[reach:])
        reach *= 2
    rest = width - reach
    return better(values[: len(values) - rest], values[rest:]) if rest else values


def _runs_around(batch: _Batch, repeated: UnsignedArray, size: int) -> Numbers:
    """Runs (start, end) of windows inside a document that hold a repeated anchor, ascending, shape (runs, 2)."""
    found = [places[np.isin(hashes, repeated)] for places, hashes in _anchors(batch, size)]
    places = np.sort(np.concatenate([np.empty(0, np.int64), *found]))
    rows = np.searchsorted(batch.borders, places, side="right") - 1
    starts = np.maximum(places + size // 2 - size, batch.borders[rows])
    ends = np.minimum(places, batch.borders[rows + 1] - size) + 1
    return _merged(starts[starts < ends], ends[starts < ends], rows[starts < ends])


def _merged(starts: Numbers, ends: Numbers, rows: Numbers) -> Numbers:
    """Ascending intervals of equal length or cut at a border, joined where they touch in one row."""
    if not len(starts):
        return np.empty((0, 2), np.int64)
    apart = np.flatnonzero((starts[1:] > ends[:-1]) | (rows[1:] != rows[:-1])) + 1
    return np.column_stack((starts[np.append(0, apart)], ends[np.append(apart - 1, len(ends) - 1)]))


def _hashes(characters: _Characters, size: int) -> Iterator[tuple[UnsignedArray, UnsignedArray]]:
    """The hash of each window of some characters, in two halves: modulo the two primes, and modulo 2^64."""
    for start in range(0, len(characters) - size + 1, _BLOCK):
        block = characters[start : start + _BLOCK + size - 1]
        one, other = (_modulo(block, size, prime, base) for prime, base in zip(_PRIMES, _BASES, strict=True))
        yield (one << np.uint64(32)) | other, _rolled(block, size)


def _modulo(characters: _Characters, size: int, prime: int, base: int) -> UnsignedArray:
    """The polynomial of each window modulo a prime: differences of sums, divided by the power of their place."""
    powers, inverse = _prime_powers(prime, base)
    sums = np.zeros(len(characters) + 1, np.uint64)
    np.cumsum(characters * powers[: len(characters)] % np.uint64(prime), out=sums[1:])
    windows = (sums[size:] - sums[:-size]) % np.uint64(prime)
    return windows * inverse[: len(windows)] % np.uint64(prime)


@functools.cache
def _prime_powers(prime: int, base: int) -> tuple[UnsignedArray, UnsignedArray]:
    """Powers of a base modulo a prime of 31 bits, and their inverses."""
    powers = inverse = np.ones(1, np.uint64)
    while (count := len(powers)) < 2 * _BLOCK:
        powers, inverse = (
            np.concatenate((found, found * np.uint64(pow(base, sign * count, prime)) % np.uint64(prime)))
            for found, sign in ((powers, 1), (inverse, -1))
        )
    return powers, inverse


def _mark_repeated(
    results: Sequence[JobResult], runs: Sequence[Numbers], again: Sequence[_Flags], bounds: tuple[int, int], size: int
) -> None:
    """Mark the windows with hashes in these bounds that have occurred before."""
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    for number, result in enumerate(results):
        high = np.fromfile(result.files["high.bin"].path, np.uint64)
        here = np.flatnonzero((high >= bounds[0]) & (high < bounds[1]))
        if len(here):
            low = np.fromfile(result.files["low.bin"].path, np.uint64)[here]
            rows, places, heldout = _places(runs[number], here)
            columns.append((high[here], low, heldout == 0, np.full(len(here), number), rows, places, here))
    if not columns:
        return
    high, low, trained, shards, rows, places, here = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((places, rows, shards, trained, low, high))
    high, low = high[order], low[order]
    new = np.ones(len(order), bool)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    elsewhere = (shards[order] != shards[first]) | (rows[order] != rows[first])
    gone = order[elsewhere | (places[order] - places[first] >= size)]
    for number in np.unique(shards[gone]).tolist():
        again[number][here[gone[shards[gone] == number]]] = True


def _spans(runs: Numbers, again: _Flags, size: int) -> Numbers:
    """The passages of a shard that its repeated windows make together: (row, begin, end)."""
    rows, begins, _ = _places(runs, np.flatnonzero(again))
    if not len(begins):
        return np.empty((0, 3), np.int64)
    apart = np.flatnonzero((begins[1:] > begins[:-1] + size) | (rows[1:] != rows[:-1])) + 1
    heads, tails = np.append(0, apart), np.append(apart - 1, len(begins) - 1)
    return np.column_stack((rows[heads], begins[heads], begins[tails] + size))


def _places(runs: Numbers, windows: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Of some windows of a shard, by number: the row, the first character, and whether it is held out."""
    row, start, end, heldout = runs.T
    ends = np.cumsum(end - start)
    of = np.searchsorted(ends, windows, side="right")
    return row[of], windows - ends[of] + end[of], heldout[of]
