"""Runs of words as 64-bit numbers: a dozen array operations a batch of texts, no Python string a word.

Texts are compared as by deduplicate (tasks/deduplicate/shingles.py), and besides without any sign of punctuation and by
folded case: `STRASSE` is `Straße`. A run has so many words as a reader would count: where each letter is a word by
itself (tasks/words.py), 13 words are 20 letters of Han or 52 of Thai.

A word is a 64-bit hash w. With an odd base B, the run of words i to j is (sum of w_k B^k) B^-i modulo 2^64: a
difference of two prefix sums, for any length. Two different runs agree with a chance of about 2^-64.

Cost: 0.2 us a word of Latin script.
"""

import functools
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.deduplicate.shingles import Encoded, batches, encode, mix, word_hashes, word_spans
from tasks.words import HAN_LETTERS, THAI_LETTERS, ends_by_space, is_unspaced

ROUNDING = 1e-6  # of sums of fractions
_BASE = 0x9E3779B97F4A7C15  # odd
_INVERSE = pow(_BASE, -1, 1 << 64)
_UNSPACED_LEAD = 0xE0  # no letter of a script without spaces begins with a smaller byte of UTF-8
_SIGNS_LEAD = 0xE2  # U+2000 to U+2FFF: punctuation and signs
_BORDER = 0xFF  # of texts, in a batch
_LAST_UNSPACED = 0x3FFFF
_LAST_SIGN = 0x1FFFF

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
UnsignedArray = npt.NDArray[np.uint64]


class Batch(NamedTuple):
    """The words of some texts: `ends[t]` is the number of words of all texts up to t."""

    sums: UnsignedArray  # (words + 1,): the prefix sums
    sizes: npt.NDArray[np.float64] | None  # of each word, in words of a reader; None where all are 1
    ends: Numbers  # (texts,)

    def lengths(self, words: float) -> Numbers:
        """How many words the shortest run of that size has from each word on; 0 where its text ends before."""
        total = len(self.sums) - 1
        starts = np.arange(total)
        last = np.repeat(self.ends, np.diff(self.ends, prepend=0))
        if self.sizes is None:
            ends = starts + int(np.ceil(words - ROUNDING))
        else:
            reached = np.concatenate(([0.0], np.cumsum(self.sizes)))
            ends = np.searchsorted(reached, reached[:-1] + words - ROUNDING)
        return np.where(ends <= last, ends - starts, 0)

    def size_of(self, text: int) -> float:
        """How many words a reader would count in a text."""
        start, end = (int(self.ends[text - 1]) if text else 0), int(self.ends[text])
        return float(end - start if self.sizes is None else self.sizes[start:end].sum())

    def runs(self, starts: Numbers, lengths: Numbers | int) -> UnsignedArray:
        """The hash of the run of so many words from each start on."""
        spans = self.sums[starts + lengths] - self.sums[starts]
        return mix(spans * _powers(_INVERSE, len(self.sums))[starts])


def read_batches(texts: pa.StringArray) -> Iterator[tuple[int, Batch]]:
    """The number of the first text and the words of each batch, in order."""
    first = 0
    for some in batches(texts):
        yield first, words_of(some)
        first += len(some)


def words_of(texts: pa.StringArray) -> Batch:
    """The words of some texts."""
    batch = encode(_plain(texts))
    words, counts = word_hashes(batch)
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(words * _powers(_BASE, len(words) + 1)[: len(words)], out=sums[1:])
    return Batch(sums, _sizes(batch), np.cumsum(counts))


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Texts of folded case without signs, as far as `encode` does not see to it."""
    texts = pc.replace_substring(texts, "_", " ")  # a letter to `encode`
    ascii_only = pc.string_is_ascii(texts)
    if pc.all(ascii_only).as_py():
        return texts
    other = pc.invert(ascii_only)
    folded = [_fold(text) for text in texts.filter(other).to_pylist()]
    return pc.replace_with_mask(texts, other, pa.array(folded, pa.string()))


def _fold(text: str) -> str:
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    signs = _signs().take(codes, mode="clip")
    if signs.any():
        text = np.where(signs, np.uint32(ord(" ")), codes).tobytes().decode("utf-32-le")
    return text.casefold()


@functools.cache
def _signs() -> Flags:
    """Whether a character is punctuation, a symbol or a space, by code point; the last for all that come after. What is
    a border of words to `encode` is left out."""
    signs = np.zeros(_LAST_SIGN + 2, bool)
    for code in range(0xC0, _LAST_SIGN + 1):
        signs[code] = unicodedata.category(chr(code))[0] in "PSZ"
    signs[0x2000:0x2070] = signs[0x3000:0x3040] = False
    return signs


def _sizes(batch: Encoded) -> npt.NDArray[np.float64] | None:
    """The size of each word, by its first letter; None where no script without spaces is in the batch."""
    bytes_ = batch.data[: batch.borders[-1]]
    if not ((bytes_ >= _UNSPACED_LEAD) & (bytes_ != _SIGNS_LEAD) & (bytes_ != _BORDER)).any():
        return None
    leads = _first_letters(batch)
    leads = np.minimum(leads, len(_LETTER_SIZES) - 1)
    for code in np.unique(leads[_LETTER_SIZES[leads] == 0]).tolist():
        _LETTER_SIZES[code] = _letter_size(chr(code))
    sizes = _LETTER_SIZES[leads]
    return None if (sizes == 1).all() else sizes


def _first_letters(batch: Encoded) -> Numbers:
    """The code point that each word of a batch begins with; 0 for one before the scripts that matter."""
    starts, _ = word_spans(batch)
    first, second, third, fourth = (batch.data[starts + place].astype(np.int64) for place in range(4))
    three = ((first & 0x0F) << 12) | ((second & 0x3F) << 6) | (third & 0x3F)
    four = ((first & 0x07) << 18) | ((second & 0x3F) << 12) | ((third & 0x3F) << 6) | (fourth & 0x3F)
    return np.where(first < _UNSPACED_LEAD, 0, np.where(first < 0xF0, three, four))


_LETTER_SIZES = np.zeros(_LAST_UNSPACED + 2)  # by code point; 0: not asked for yet


def _letter_size(letter: str) -> float:
    """What part of a reader's word a word is that begins with a letter."""
    if not is_unspaced(letter):
        return 1.0
    return 1 / (THAI_LETTERS if ends_by_space(letter) else HAN_LETTERS)


_KNOWN_POWERS: dict[int, UnsignedArray] = {}


def _powers(base: int, count: int) -> UnsignedArray:
    """base^0 to base^(count - 1) at least, modulo 2^64; kept."""
    known = _KNOWN_POWERS.get(base)
    if known is None or len(known) < count:
        factors = np.full(max(count, 1 << 16), base, np.uint64)
        factors[0] = 1
        known = _KNOWN_POWERS[base] = np.cumprod(factors)
    return known
