"""Whether texts share a run of words, so that what is asked in an evaluation is not learned: the n-gram check of GPT-3
(Brown et al. 2020, appendix C), by hashes.

Words are compared without case and punctuation. A run has 13 of them, as a reader would count: where each letter is a
word (words.py) 20 letters of Han or 52 of Thai. A text that is shorter is near one that is the same from end to end;
less than four words are too few to say so.

Cost: 3 us a word. Memory: 8 bytes a word of the texts that others are compared with.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tasks.words import HAN_LETTERS, THAI_LETTERS, ends_by_space, is_unspaced, words

RUN_WORDS = 13.0
LEAST_WORDS = 4.0  # of a short text that is compared as a whole
ROUNDING = 1e-6  # of sums of fractions
Hashes = npt.NDArray[np.uint64]


def hashes_of(texts: Iterable[str]) -> Hashes:
    """The runs of some texts, ascending, each once."""
    return np.unique(np.fromiter((number for text in texts for number in _hashes(text)), np.uint64))


def is_near(text: str, others: Hashes) -> bool:
    """Whether a text shares a run with those of which `others` are the hashes."""
    found = np.fromiter(_hashes(text), np.uint64)
    if not len(others) or not len(found):
        return False
    places = np.searchsorted(others, found)
    return bool((others[np.minimum(places, len(others) - 1)] == found).any())


def _hashes(text: str) -> Iterator[int]:
    """The hashes of the shortest run from each word on, or of the whole of a short text."""
    found = _plain_words(text)
    sizes = [_size(word) for word in found]
    if LEAST_WORDS <= sum(sizes) < RUN_WORDS:
        yield _hash(found)
    end, size = 0, 0.0
    for start in range(len(found)):
        while size < RUN_WORDS - ROUNDING and end < len(found):
            size += sizes[end]
            end += 1
        if size < RUN_WORDS - ROUNDING:
            return
        yield _hash(found[start:end])
        size -= sizes[start]


def _size(word: str) -> float:
    """How much of what a reader calls a word it is."""
    if not is_unspaced(word):
        return 1.0
    return 1 / (THAI_LETTERS if ends_by_space(word) else HAN_LETTERS)


def _plain_words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation and signs."""
    lowered = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in lowered)
    return words(plain)


def _hash(run: list[str]) -> int:
    joined = "\x1f".join(run).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big")
