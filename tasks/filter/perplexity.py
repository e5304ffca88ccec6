"""How well the n-grams of a reference text foretell a text: bits for each of its bytes, as CCNet judges web pages
(Wenzek et al. 2020, arXiv 1911.00359) by perplexity, which is 2 to the power of the bits for all of it.

The model is one of characters, 1 to 5 at a time, smoothed by Witten and Bell's rule (1991; method C of Chen and Goodman
1998): after a context that was seen N times with T different characters behind it, a character that was behind it c
times has (c + T p) / (N + T), where p is what the context without its first character says; at last all characters of
Unicode are alike. White space of any kind and length is one space. A text in another script, language or alphabet than
the reference costs as much as noise: the reference should hold all that is wanted.

N-grams are hashed into 2**22 entries of 64 bits, 32 MB: 24 bits of the hash, 24 of the count, 16 of T. Where two meet
in a place the more frequent one stays, and the other counts as not seen. A wrong one is taken once in 2**24 times.

Cost: .25 ms a document of 2.8 kB. Learning: 1 CPU s and 60 MB of memory for each MB of reference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from tasks.engine.context import Summary
from tasks.filter.given_texts import texts_of_files

FILE = "reference.safetensors"
OPTION = "filter.reference.paths"
ORDER = 5  # characters of the longest n-gram
PIECE_CHARACTERS = 1 << 16  # of a long text that are judged at once
CHARACTERS = 0x110000  # of Unicode
_PLACE_BITS, _TAG_BITS, _COUNT_BITS, _TYPE_BITS = 22, 24, 24, 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2**64 by the golden ratio
_MOST_COUNT, _MOST_TYPES = np.uint64((1 << _COUNT_BITS) - 1), np.uint64((1 << _TYPE_BITS) - 1)

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """`entries` (2**22,): an n-gram each, 0 where there is none; the characters read, and how many different ones."""

    entries: Hashes
    read: int
    different: int

    def bits_per_byte(self, text: str) -> float | None:
        """Bits for a UTF-8 byte of the text, white space folded, four decimals; None for one without text."""
        folded = folded_space(text)
        if not folded:
            return None
        bits = sum(
            self.bits(codes_of(folded[start : start + PIECE_CHARACTERS]))
            for start in range(0, len(folded), PIECE_CHARACTERS)
        )
        return round(bits / len(folded.encode(errors="surrogatepass")), 4)

    def bits(self, codes: Hashes) -> float:
        """Bits for characters, given as code points."""
        chances = np.full(len(codes), 1 / CHARACTERS)
        before: Any = float(self.read)
        types: Any = float(self.different)
        for order, hashes in enumerate(hashes_by_order(codes), 1):
            counts, next_types = self._found(hashes)
            inside = chances[order - 1 :]
            inside[:] = (np.minimum(counts, before) + types * inside) / (before + types)
            before, types = counts[:-1], np.maximum(next_types[:-1], 1)  # not seen: the shorter context's chance
        return -float(np.log2(chances).sum())

    def _found(self, hashes: Hashes) -> tuple[Floats, Floats]:
        """How often n-grams were seen, and with how many characters behind them."""
        found = self.entries.take((hashes >> np.uint64(64 - _PLACE_BITS)).astype(np.int64))
        found *= (found >> np.uint64(64 - _TAG_BITS)) == _tags(hashes)
        return ((found >> np.uint64(_TYPE_BITS)) & _MOST_COUNT).astype(float), (found & _MOST_TYPES).astype(float)

    def write(self, folder: Path) -> None:
        """The model, as FILE of a folder."""
        from safetensors.numpy import save_file

        save_file({"entries": self.entries, "totals": np.array([self.read, self.different])}, folder / FILE)

    @classmethod
    def open(cls, path: Path) -> "Reference":
        """The file that `write` has written."""
        from safetensors.numpy import load_file

        found = load_file(path)
        return cls(found["entries"], *found["totals"].tolist())


def folded_space(text: str) -> str:
    """A text with one space for all white space between two words, and none around it."""
    return " ".join(text.split())


def codes_of(text: str) -> Hashes:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def hashes_by_order(codes: Hashes) -> Iterator[Hashes]:
    """For 1 to ORDER the hashes of the n-grams that begin at each character; of its first bits the place is made."""
    codes = codes + np.uint64(1)
    hashes = codes * _MULTIPLIER
    yield hashes
    for order in range(2, min(ORDER, len(codes)) + 1):
        hashes = (hashes[:-1] + codes[order - 1 :]) * _MULTIPLIER
        yield hashes


def learn(text: str) -> Reference:
    """The model of a text whose white space is folded and that holds a character."""
    codes = codes_of(text)
    places, counts, entries = [], [], []
    shorter: tuple[Hashes, Hashes, Any] | None = None  # of the n-grams with one character less: all; each once; counts
    different = 0
    for order, hashes in enumerate(chain(hashes_by_order(codes), [None]), 1):
        if hashes is None:
            first, single, count = np.array([], np.int64), np.array([], np.uint64), np.array([])
        else:
            single, first, count = np.unique(hashes, return_index=True, return_counts=True)
        if order == 1:
            different = len(single)
        if shorter:
            every, once, seen = shorter
            contexts, behind = np.unique(every[first], return_counts=True)
            types = np.zeros(len(once), np.uint64)
            types[np.searchsorted(once, contexts)] = behind
            places.append((once >> np.uint64(64 - _PLACE_BITS)).astype(np.int64))
            counts.append(seen)
            seen = np.minimum(seen.astype(np.uint64), _MOST_COUNT) << np.uint64(_TYPE_BITS)
            entries.append(_tags(once) << np.uint64(64 - _TAG_BITS) | seen | np.minimum(types, _MOST_TYPES))
        if hashes is not None:
            shorter = hashes, single, count
    order_of = np.argsort(np.concatenate(counts), kind="stable")
    table = np.zeros(1 << _PLACE_BITS, np.uint64)
    table[np.concatenate(places)[order_of]] = np.concatenate(entries)[order_of]  # of one place the last stays
    return Reference(table, len(codes), different)


def _tags(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(64 - _PLACE_BITS - _TAG_BITS) & np.uint64((1 << _TAG_BITS) - 1)


def learn_reference(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the model of the first `most_megabytes` of files. Summary: the bytes that were read."""
    most = config["most_megabytes"] * 1_000_000
    text = _beginning(texts_of_files(inputs, config["text_field"], OPTION), most)
    if not text:
        raise DataError(f"{OPTION}: holds no text: name files with texts like those that are wanted")
    learn(text).write(out)
    return {"reference_bytes": len(text.encode())}


def _beginning(texts: Iterable[str], most: int) -> str:
    """The texts, white space folded, one after the other, up to so many bytes."""
    pieces, size = [], 0
    for text in map(folded_space, texts):
        if text:
            raw = f"{text} ".encode()[: most - size]
            pieces.append(raw)
            size += len(raw)
        if size >= most:
            break
    return b"".join(pieces).decode(errors="ignore").strip()
