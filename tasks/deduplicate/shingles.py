"""Documents as sets of word n-gram hashes, without a Python string per word, nor per document of plain characters.

A word is a run of letters, digits and underscores of the lower-cased text (close to `\\w+`); any non-ASCII character
counts as a letter, except the punctuation and spaces of Latin-1, General Punctuation and CJK Punctuation. A batch
of documents becomes one byte array, from the buffers of Arrow. A word is hashed by eight bytes at a time, read as one
number: the first eight of all words of the batch in one array operation, then the second of those that are longer.
A word of up to eight bytes and its hash are one to one. Five word hashes make a shingle hash by a multiply-add each.

Two different shingles share a 64-bit hash with a chance of about 2^-64, so a Jaccard similarity of such sets is
called exact. A document of fewer words than a shingle has one shingle: its whole normalised text.

Cost: about 20 microseconds for a document of 2.8 kB. The batch size keeps the arrays in the processor's cache.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.words import is_unspaced, spaced

BATCH_BYTES = 256 << 10

INVISIBLE = re.compile(  # Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, version 15)
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiner, fillers of Korean and Khmer
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width spaces and joiners, direction, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"  # variation selectors, byte order mark
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"  # shorthand, music, tags
)

Numbers = npt.NDArray[np.int64]
UnsignedArray = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15  # odd
_MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # odd
_BORDER = b"\xff"  # no byte of UTF-8
_WHITE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f"
_PLAIN = bytes(range(0x80)).lower().translate(bytes.maketrans(_WHITE, b" " * len(_WHITE))) + bytes(range(0x80, 0x100))
_OTHER_SPACE = re.compile("[\x85\u1680\u2028\u2029]")  # what NFKC leaves of white space outside ASCII
_ASCII = bytes(range(0x80))
_WORD_BYTES = b"0123456789abcdefghijklmnopqrstuvwxyz_" + bytes(range(0x80, 0xFF))
_IS_WORD = bytes(byte in _WORD_BYTES for byte in range(0x100))
_SETTLED_BLOCKS = (  # of which many a text has a few: Latin to Cyrillic; more Latin; punctuation, signs and arrows
    (0xA1, 0x52F),
    (0x1E00, 0x1EFF),
    (0x2010, 0x2BFF),
)
_CHUNK = 8  # bytes of a word that are hashed at once
_LONGEST = 4 * _CHUNK  # a longer word is hashed by itself


class Shingles(NamedTuple):
    """Shingle hashes of a batch, document after document: `hashes[starts[d]:starts[d + 1]]`; none is empty."""

    hashes: UnsignedArray  # (shingles,)
    starts: npt.NDArray[np.int64]  # (documents,)


def normalise(text: str) -> str:
    """The form in which texts are compared, but for ASCII letters and white space, to which `encode` sees.

    Without what cannot be seen (INVISIBLE), in compatibility composition (NFKC: full width, ligatures, no-break spaces
    and superscripts become the plain characters), in lower case, and with spaces around the letters of scripts that
    write none, so that their shingles are of letters (tasks/words.py).
    """
    others = _others(text)  # few in most scripts: only these are searched
    if INVISIBLE.search(others):
        text = INVISIBLE.sub("", text)
    normal = unicodedata.normalize("NFKC", text)
    if normal is not text:
        text, others = normal, _others(normal)
    if others != others.lower():
        text = text.lower()
    if _OTHER_SPACE.search(others):
        text = _OTHER_SPACE.sub(" ", text)
    return spaced(text) if is_unspaced(others) else text


def _others(text: str) -> str:
    """The characters that are not ASCII."""
    return text.encode().translate(None, _ASCII).decode()


class Encoded(NamedTuple):
    """A batch of normalised texts with single spaces, in UTF-8, as one array."""

    data: npt.NDArray[np.uint8]  # a border before each text and after the last, then zeros
    borders: npt.NDArray[np.int64]  # (documents + 1,) where the borders are

    @property
    def texts(self) -> list[bytes]:
        """Each text by itself."""
        ends = self.borders[1:] - (self.data[self.borders[1:] - 1] == ord(" "))
        whole = self.data.tobytes()
        return [whole[start:end] for start, end in zip((self.borders[:-1] + 1).tolist(), ends.tolist(), strict=True)]

    def only(self, numbers: Sequence[int]) -> "Encoded":
        """Some of the texts, in ascending order."""
        if len(numbers) == len(self.borders) - 1:
            return self
        wanted = np.zeros(len(self.borders), bool)
        wanted[list(numbers)] = True
        edges = self.borders[np.flatnonzero(np.diff(wanted, prepend=False))].reshape(-1, 2)
        pieces = [self.data[start:end] for start, end in edges.tolist()]
        sizes = np.diff(self.borders)[wanted[:-1]]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        return Encoded(np.concatenate([*pieces, self.data[self.borders[-1] :]]), starts)


def encode(texts: Sequence[str] | pa.StringArray) -> Encoded:
    """Texts in the form in which they are compared (normalise), with single spaces for white space, in one array.

    Texts of ASCII and of settled characters go from Arrow's buffers through a dozen array operations; only others
    become Python strings.
    """
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts, pa.string())
    unsettled = _unsettled(texts)
    texts = texts.cast(pa.binary())
    if len(unsettled):
        other = np.zeros(len(texts), bool)
        other[unsettled] = True
        normal = [normalise(text.decode()).encode() for text in texts.take(pa.array(unsettled)).to_pylist()]
        texts = pc.replace_with_mask(texts, pa.array(other), pa.array(normal, pa.binary()))
    joined = pc.binary_join_element_wise(texts, b"", _BORDER)
    _, ends, data = joined.buffers()
    length = int(np.frombuffer(ends, np.int32)[len(joined)]) if len(joined) else 0
    lowered = b"".join((_BORDER, memoryview(data)[:length] if length else b"", bytes(_CHUNK))).translate(_PLAIN)
    return _squeezed(np.frombuffer(lowered, np.uint8))


def _unsettled(texts: pa.StringArray) -> Numbers:
    """The texts that `normalise` may change, and so has to see: ascending numbers."""
    borders = text_borders(texts)
    if borders[0] == borders[-1]:
        return np.empty(0, np.int64)
    data = np.frombuffer(texts.buffers()[2], np.uint8)[borders[0] : borders[-1]]
    leads = np.flatnonzero(data >= 0xC0)
    if not len(leads):
        return leads
    first, second, third = (data[np.minimum(leads + place, len(data) - 1)].astype(np.int64) for place in range(3))
    two = ((first & 0x1F) << 6) | (second & 0x3F)
    three = ((first & 0x0F) << 12) | ((second & 0x3F) << 6) | (third & 0x3F)
    codes = np.where(first < 0xE0, two, np.where(first < 0xF0, three, 0))
    changed = leads[~_settled().take(codes, mode="clip")] + borders[0]
    return np.unique(np.searchsorted(borders, changed, side="right") - 1)


@functools.cache
def _settled() -> npt.NDArray[np.bool_]:
    """Whether `normalise` leaves a character as it is, by code point, the last for all that come after.

    In Latin, Greek, Cyrillic, punctuation and signs no two of these make one together (Unicode's NFKC_Quick_Check);
    other blocks are not looked into.
    """
    settled = np.zeros(_SETTLED_BLOCKS[-1][1] + 2, bool)
    for start, end in _SETTLED_BLOCKS:
        for code in range(start, end + 1):
            character = chr(code)
            settled[code] = unicodedata.category(character)[0] != "M" and normalise(character) == character
    return settled


def _squeezed(data: npt.NDArray[np.uint8]) -> Encoded:
    """Leave one space of each run, and none behind a border; one before a border stays (`Encoded.texts` knows)."""
    space, border = data == ord(" "), data == _BORDER[0]
    again = space[1:] & (space[:-1] | border[:-1])
    if again.any():
        left = np.concatenate(([True], ~again))
        data, border = data[left], border[left]
    return Encoded(data, np.flatnonzero(border))


def digest(text: bytes) -> bytes:
    """The digest, 16 bytes, of a text of a batch."""
    return hashlib.sha256(text).digest()[:16]


def shingle(batch: Encoded, shingle_words: int) -> Shingles:
    """The shingles of a batch of texts, in order, repeats included."""
    words, counts = word_hashes(batch)
    windows = max(len(words) - shingle_words + 1, 0)
    mixed = words[:windows] * _MULTIPLIER
    for position in range(1, shingle_words):
        mixed += words[position : position + windows]
        mixed *= _MULTIPLIER
    mixed = mixed[_whole(counts, shingle_words)[:windows]]

    sizes = np.where(counts >= shingle_words, counts - shingle_words + 1, 1)
    starts = np.cumsum(sizes) - sizes
    short = np.flatnonzero(counts < shingle_words)
    if not len(short):
        return Shingles(mixed, starts)
    hashes = np.empty(int(sizes.sum()), np.uint64)
    long_enough = np.ones(len(hashes), bool)
    long_enough[starts[short]] = False
    hashes[long_enough] = mixed
    texts = batch.texts
    for document in short.tolist():
        hashes[starts[document]] = int.from_bytes(digest(texts[document])[:8], "little")
    return Shingles(hashes, starts)


def _whole(counts: npt.NDArray[np.int64], shingle_words: int) -> npt.NDArray[np.bool_]:
    """For each word of a batch whether so many words from it on are of one document."""
    whole = np.ones(int(counts.sum()), bool)
    ends = np.cumsum(counts)
    for before in range(1, shingle_words):
        whole[(ends - before)[counts >= before]] = False
    return whole


def shingle_sets(texts: Sequence[str] | pa.StringArray, shingle_words: int) -> Iterator[UnsignedArray]:
    """For each text its distinct shingle hashes, sorted."""
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts, pa.string())
    for batch in batches(texts):
        hashes, starts = shingle(encode(batch), shingle_words)
        for piece in np.split(hashes, starts[1:]):
            piece.sort()
            new = np.ones(len(piece), bool)
            np.not_equal(piece[1:], piece[:-1], out=new[1:])
            yield piece[new]


def batches(texts: pa.StringArray, size: int = BATCH_BYTES) -> Iterator[pa.StringArray]:
    """Slices of so many bytes at most; a longer text is one of its own."""
    borders = text_borders(texts)
    start = 0
    while start < len(texts):
        end = max(int(np.searchsorted(borders, borders[start] + size, "right")) - 1, start + 1)
        yield texts.slice(start, end - start)
        start = end


def text_borders(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Where each text begins in Arrow's buffer, and where the last ends, in bytes; shape (texts + 1,)."""
    if not len(texts):
        return np.zeros(1, np.int64)
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1].astype(np.int64)


def word_spans(batch: Encoded) -> tuple[Numbers, Numbers]:
    """Where each word of a batch begins in its data, and how many bytes it has."""
    data = batch.data
    inside = np.frombuffer(data.tobytes().translate(_IS_WORD), bool)
    if np.count_nonzero(data >= 0x80) > len(batch.borders):
        inside = inside.copy()
        _unmark_punctuation(data, inside)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    return edges[0::2], edges[1::2] - edges[0::2]


def word_hashes(batch: Encoded) -> tuple[UnsignedArray, npt.NDArray[np.int64]]:
    """Hashes of all words of a batch, and the number of words of each text."""
    data = batch.data
    starts, lengths = word_spans(batch)
    # the eight bytes from each byte on; the array ends with eight that are in no word
    ahead = np.ndarray((len(data) - _CHUNK,), "<u8", data, strides=(1,))
    words = mix(ahead[starts] & _chunk_masks().take(lengths, mode="clip"))
    longer, done = np.flatnonzero(lengths > _CHUNK), _CHUNK
    while len(longer) and done < _LONGEST:
        rest = lengths[longer] - done
        chunks = ahead[starts[longer] + done] & _chunk_masks().take(rest, mode="clip")
        words[longer] = mix(words[longer] * np.uint64(_GOLDEN) + chunks)
        longer, done = longer[rest > _CHUNK], done + _CHUNK
    for word in longer.tolist():
        start = starts[word]
        words[word] = int.from_bytes(digest(data[start : start + lengths[word]].tobytes())[:8], "little")
    return words, np.diff(np.searchsorted(starts, batch.borders))


def _unmark_punctuation(data: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> None:
    """Take U+0080-00BF, U+2000-206F and U+3000-303F out of the word bytes, by their UTF-8 forms."""
    leads = np.flatnonzero((data >= 0xC2) & (data <= 0xE3))  # the array ends with no letter: two bytes follow each
    first, second, third = data[leads], data[leads + 1], data[leads + 2]
    latin = leads[first == 0xC2]
    general = (first == 0xE2) & ((second == 0x80) | ((second == 0x81) & (third < 0xB0)))
    wide = leads[general | ((first == 0xE3) & (second == 0x80))]
    for found, length in ((latin, 2), (wide, 3)):
        for place in range(length):
            inside[found + place] = False


def mix(values: UnsignedArray) -> UnsignedArray:
    """Stafford's finaliser (variant 13): every input bit reaches every output bit. A polynomial's low bits do not."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@functools.cache
def _chunk_masks() -> UnsignedArray:
    """What leaves the first n bytes of a chunk, for n of 0 to 8."""
    return np.array([(1 << (8 * length)) - 1 for length in range(_CHUNK + 1)], np.uint64)
