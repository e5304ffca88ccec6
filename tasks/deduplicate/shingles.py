"""Documents as sets of word n-gram hashes, without a Python string per word.

A word is a run of letters, digits and underscores of the lower-cased text (close to `\\w+`); any non-ASCII character
counts as a letter, except the punctuation and spaces of Latin-1, General Punctuation and CJK Punctuation. A batch
of documents becomes one byte array. With v(byte) a fixed random value and B an odd constant, the prefix sums

    S[i] = v(b[0]) * B^0 + ... + v(b[i-1]) * B^(i-1)        (mod 2^64)

give the hash of any word as (S[end] - S[start]) * B^-start: Rabin and Karp's polynomial, computed for all words of
the batch by a dozen array operations. Five word hashes make a shingle hash by a multiply-add each.

Two different shingles share a 64-bit hash with a chance of about 2^-64, so a Jaccard similarity of such sets is
called exact. A document of fewer words than a shingle has one shingle: its whole normalised text.

Cost: about 25 microseconds for a document of 2.8 kB. The batch size keeps the arrays in the processor's cache.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.shards.text_batches import batches
from tasks.words import is_unspaced, spaced

BATCH_CHARACTERS = 192 << 10

INVISIBLE = re.compile(  # Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, version 15)
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiner, fillers of Korean and Khmer
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width spaces and joiners, direction, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"  # variation selectors, byte order mark
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"  # shorthand, music, tags
)

UnsignedArray = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE_BASE = pow(_BASE, -1, 1 << 64)
_SPACES = bytes.maketrans(b"\t\n\v\f\r\x1c\x1d\x1e\x1f", b" " * 9)
_UNICODE_SPACE = re.compile(  # U+0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000 in UTF-8
    rb"\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80"
)
_ASCII = bytes(range(0x80))
_WORD_BYTES = b"0123456789abcdefghijklmnopqrstuvwxyz_"


class Shingles(NamedTuple):
    """Shingle hashes of a batch, document after document: `hashes[starts[d]:starts[d + 1]]`; none is empty."""

    hashes: UnsignedArray  # (shingles,)
    starts: npt.NDArray[np.int64]  # (documents,)


def normalise(text: str) -> str:
    """The form in which texts are compared.

    Without what cannot be seen (INVISIBLE), in compatibility composition (NFKC: full width, ligatures, no-break spaces
    and superscripts become the plain characters), in lower case, and with spaces around the letters of scripts that
    write none, so that their shingles are of letters (tasks/words.py).
    """
    if text.isascii():
        return text.lower()
    others = text.encode().translate(None, _ASCII).decode()  # few in most scripts: only these are searched
    if INVISIBLE.search(others):
        text = INVISIBLE.sub("", text)
    text = unicodedata.normalize("NFKC", text).lower()
    return spaced(text) if is_unspaced(unicodedata.normalize("NFKC", others)) else text


class Encoded(NamedTuple):
    """A batch of normalised texts in UTF-8, each and as one array with a line end before each and after the last."""

    texts: list[bytes]
    data: npt.NDArray[np.uint8]
    borders: npt.NDArray[np.int64]  # (documents + 1,) first byte of each text; last, the length of the data


def encode(texts: Sequence[str]) -> Encoded:
    """Normalised texts as UTF-8 in one array, with the place of each."""
    encoded = [normalise(text).encode() for text in texts]
    data = np.frombuffer(b"\n" + b"\n".join(encoded) + b"\n", np.uint8)  # a word never touches an end
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
    return Encoded(encoded, data, np.cumsum([1, *lengths]))


def fold(encoded: bytes) -> bytes:
    """An encoded text with single spaces for all white space: exact duplicates are equal in this form."""
    if not encoded.isascii():
        encoded = _UNICODE_SPACE.sub(b" ", encoded)
    folded = encoded.translate(_SPACES)
    while b"  " in folded:
        folded = folded.replace(b"  ", b" ")
    return folded.strip(b" ")


def digest(folded: bytes) -> bytes:
    """The digest, 16 bytes, of a folded text."""
    return hashlib.blake2b(folded, digest_size=16).digest()


def shingle(batch: Encoded, shingle_words: int) -> Shingles:
    """The shingles of a batch of texts, in order, repeats included."""
    words, counts = _word_hashes(batch)
    multipliers = _random_values(shingle_words, seed=2) | np.uint64(1)
    windows = max(len(words) - shingle_words + 1, 0)
    mixed = np.zeros(windows, np.uint64)
    for position in range(shingle_words):
        mixed += words[position : position + windows] * multipliers[position]
    owner = np.repeat(np.arange(len(counts)), counts)
    whole = owner[:windows] == owner[len(owner) - windows :]  # windows that cross into the next document fall out

    sizes = np.where(counts >= shingle_words, counts - shingle_words + 1, 1)
    starts = np.cumsum(sizes) - sizes
    hashes = np.empty(int(sizes.sum()), np.uint64)
    short = np.flatnonzero(counts < shingle_words)
    long_enough = np.ones(len(hashes), bool)
    long_enough[starts[short]] = False
    hashes[long_enough] = mixed[whole]
    for document in short.tolist():
        hashes[starts[document]] = int.from_bytes(digest(fold(batch.texts[document]))[:8], "little")
    return Shingles(hashes, starts.astype(np.int64))


def shingle_sets(texts: Iterable[str], shingle_words: int) -> Iterator[UnsignedArray]:
    """For each text its distinct shingle hashes, sorted."""
    for batch in batches(texts, BATCH_CHARACTERS):
        hashes, starts = shingle(encode(batch), shingle_words)
        for piece in np.split(hashes, starts[1:]):
            piece.sort()
            new = np.ones(len(piece), bool)
            np.not_equal(piece[1:], piece[:-1], out=new[1:])
            yield piece[new]


def _word_hashes(batch: Encoded) -> tuple[UnsignedArray, npt.NDArray[np.int64]]:
    """Hashes of all words of a batch, and the number of words of each text."""
    data = batch.data
    inside = _word_table()[data]
    if data.max() >= 0x80:
        _unmark_punctuation(data, inside)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]

    powers, inverses = _powers(1 << max(16, (len(data) - 1).bit_length()))
    sums = np.cumsum(_byte_values()[data] * powers[: len(data)])
    words = (sums[ends - 1] - sums[starts - 1]) * inverses[starts]
    return _mix(words), np.diff(np.searchsorted(starts, batch.borders))


def _unmark_punctuation(data: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> None:
    """Take U+0080-00BF, U+2000-206F and U+3000-303F out of the word bytes, by their UTF-8 forms."""
    first, second, third = data[:-2], data[1:-1], data[2:]
    latin = np.flatnonzero(first == 0xC2)
    general = np.flatnonzero((first == 0xE2) & ((second == 0x80) | ((second == 0x81) & (third < 0xB0))))
    cjk = np.flatnonzero((first == 0xE3) & (second == 0x80))
    inside[latin] = inside[latin + 1] = False
    for found in (general, cjk):
        inside[found] = inside[found + 1] = inside[found + 2] = False


def _mix(values: UnsignedArray) -> UnsignedArray:
    """Stafford's finaliser (variant 13): every input bit reaches every output bit. A polynomial's low bits do not."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _random_values(count: int, seed: int) -> UnsignedArray:
    """Fixed random values (SplitMix64), the same under every numpy."""
    steps = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(_BASE)
    return _mix(steps)


@functools.cache
def _byte_values() -> UnsignedArray:
    return _random_values(256, seed=1)


@functools.cache
def _word_table() -> npt.NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(_WORD_BYTES)] = True
    table[0x80:] = True
    return table


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[UnsignedArray, UnsignedArray]:
    """B^i and B^-i modulo 2^64 for i below count."""
    powers = [np.full(count, base, np.uint64) for base in (_BASE & _MASK, _INVERSE_BASE)]
    for array in powers:
        array[0] = 1
        np.cumprod(array, out=array)
    return powers[0], powers[1]
