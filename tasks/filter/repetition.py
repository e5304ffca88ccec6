"""Signals of Gopher's repetition rules (arXiv 2112.11446, table A1), in datatrove's reading.

A duplicate is any repeat after the first. Shares of characters are of the whole text. The repeated n-grams are
scanned from left to right: at one seen before, its characters count and the scan jumps over it. The most frequent
n-gram counts only where it occurs twice: otherwise every short text would seem repetitive.

Where no space parts words and each letter counts as one, n words are the letters of about as many: five words of
Chinese are 8 letters, of Thai 20. Five letters repeat in any book.

Words become numbers once, an n-gram becomes the number of a shorter one paired with that of what follows it, and the
work stops at the first length without a repeat, since no longer n-gram can have one.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.words import HAN_LETTERS, THAI_LETTERS

Numbers = npt.NDArray[np.int64]

TOP_GRAMS = (2, 3, 4)
REPEATED_GRAMS = (5, 6, 7, 8, 9, 10)
# The n-grams that are numbered, each from two shorter ones: for words, and for letters of words of 1.5 or 4.
_CHAINS = {
    1.0: tuple(range(2, 11)),
    HAN_LETTERS: (2, 3, 5, 6, 8, 9, 11, 12, 14, 15),
    THAI_LETTERS: (2, *range(4, 41, 4)),
}

_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


def repetition_signals(text: str, words: Sequence[str], lines: Sequence[str], letters: float = 1) -> dict[str, float]:
    """Shares of repeated lines, paragraphs and word n-grams. `lines` are the stripped lines that hold text.

    `letters` as `tasks.words.letters_a_word` says: the words of `words` that make one.
    """
    characters = max(len(text), 1)
    paragraphs = [stripped for piece in _PARAGRAPH_BREAK.split(text) if (stripped := piece.strip())]
    signals: dict[str, float] = {}
    for name, pieces in (("line", lines), ("paragraph", paragraphs)):
        repeats, repeated_characters = _repeats(pieces)
        signals[f"duplicate_{name}s"] = repeats / max(len(pieces), 1)
        signals[f"duplicate_{name}_characters"] = repeated_characters / characters
    signals |= {f"top_{length}_gram": 0.0 for length in TOP_GRAMS}
    signals |= {f"duplicate_{length}_grams": 0.0 for length in REPEATED_GRAMS}

    codes = {word: code for code, word in enumerate(dict.fromkeys(words))}
    numbers = np.fromiter(map(codes.__getitem__, words), np.int64, len(words))
    ends = np.zeros(len(words) + 1, np.int64)  # characters of the words before each, spaces left out
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=ends[1:])
    named = {int(letters * length + 0.5): length for length in (*TOP_GRAMS, *REPEATED_GRAMS)}
    parts, length, grams = {1: numbers}, 1, numbers
    for longer in _CHAINS[letters]:
        ending = parts[longer - length]
        count = max(len(ending) - length, 0)
        paired = grams[:count] * (int(ending.max(initial=0)) + 1) + ending[length:]
        length = longer
        grams, repeated = _numbered(paired)
        if not repeated:
            break
        if length <= THAI_LETTERS:
            parts[length] = grams
        if (name_length := named.get(length)) in TOP_GRAMS:
            spaces = length - 1 if letters == 1 else 0
            signals[f"top_{name_length}_gram"] = _top_gram_characters(grams, ends, length, spaces) / characters
        elif name_length:
            signals[f"duplicate_{name_length}_grams"] = _repeated_gram_characters(grams, ends, length) / characters
    return signals


def _repeats(pieces: Sequence[str]) -> tuple[int, int]:
    """Number of pieces seen before, and their characters."""
    seen: set[str] = set()
    count = characters = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            characters += len(piece)
        seen.add(piece)
    return count, characters


def _numbered(values: Numbers) -> tuple[Numbers, bool]:
    """The values numbered from 0 without gaps, and whether any occurs twice."""
    order = np.argsort(values)
    ordered = values[order]
    new = np.zeros(len(values), np.int64)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:], casting="unsafe")
    numbers = np.empty(len(values), np.int64)
    numbers[order] = new = new.cumsum()
    return numbers, len(values) > 0 and int(new[-1]) < len(values) - 1


def _top_gram_characters(grams: Numbers, ends: Numbers, length: int, spaces: int) -> int:
    """Characters covered by the most frequent n-gram (of equals the first), its inner spaces included."""
    counts = np.bincount(grams)
    first = int(np.argmax(counts[grams]))
    return int((ends[first + length] - ends[first] + spaces) * counts[grams[first]])


def _repeated_gram_characters(grams: Numbers, ends: Numbers, length: int) -> int:
    """Characters, without spaces, of the n-grams that the scan has seen before."""
    positions = np.flatnonzero(np.bincount(grams)[grams] > 1)  # the scan changes nothing at the others
    seen: set[int] = set()
    jump_to = characters = 0
    for position, gram in zip(positions.tolist(), grams[positions].tolist(), strict=True):
        if position < jump_to:
            continue
        if gram in seen:
            characters += int(ends[position + length] - ends[position])
            jump_to = position + length
        else:
            seen.add(gram)
    return characters
