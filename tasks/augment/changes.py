"""A text in another form: noise, dropout, shuffle. Each is a function of the text, its settings and a random number
generator, and never parts what a reader sees as one character (a grapheme cluster of UAX #29).

A text that comes out as it went in, or empty, is no other form: the functions' callers leave it out.
"""

import random
import re
from collections.abc import Iterator

import regex

from tasks.augment.config import Dropout, Noise, Shuffle
from tasks.words import is_unspaced

_FLAG = r"[\U0001F1E6-\U0001F1FF]"  # half of one: a regional indicator
CLUSTER = regex.compile(rf"{_FLAG}{{2}}(?={_FLAG})|\X")  # \X alone counts from the first of a row of flags at each
_JOINING = r"[\p{GCB=Prepend}\p{Extended_Pictographic}]"  # one character with a sign after it; some are letters
_MARKS = r"\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}"
_LETTERS = rf"[\p{{L}}--{_JOINING}][[\p{{L}}{_MARKS}]--{_JOINING}]*+"  # \X repeated would hold 120 bytes for each
WORD_OR_CLUSTER = regex.compile(rf"(?V1)(?:{_LETTERS}|(?=\p{{L}})\X)+|{CLUSTER.pattern}")
_MARK = regex.compile(r"\p{P}")
_PARTED = re.compile(r"((?:\A|\n)(?:[^\S\n]*\n)+|\n[^\S\n]*\Z)")  # an empty line, or several; those at the ends
_SPACE = regex.compile(rf"((?:\n|\s(?![{_MARKS}]))+)")  # with a mark on it, white space is a part of a word
_ENDS = regex.compile(rf"\A[\n ]+(?![{_MARKS}])|[\n ]+\Z")


def noisy(text: str, config: Noise, draw: random.Random) -> str:
    """Words in lower, upper or title case; single marks of punctuation left out or doubled.

    Scripts without cases have their punctuation changed alone.
    """
    return "".join(_noisy(found[0], config, draw) for found in WORD_OR_CLUSTER.finditer(text))


def _noisy(piece: str, config: Noise, draw: random.Random) -> str:
    if piece[0].isalpha():
        if piece.lower() != piece.upper() and draw.random() < config.case:
            return draw.choice((piece.lower(), piece.upper(), piece.title()))
    elif _MARK.fullmatch(piece) and draw.random() < config.punctuation:
        return draw.choice(("", piece * 2))
    return piece


def with_dropout(text: str, config: Dropout, draw: random.Random) -> str:
    """Without some of the words, each with the white space after it; a last word takes the space before it along."""
    left = "".join(unit for unit in _units(text) if not unit.strip() or draw.random() >= config.words)
    return _ENDS.sub("", left) if len(left) < len(text) else text


def _units(text: str) -> Iterator[str]:
    """Words with the spaces after them, line breaks by themselves: together the text."""
    pieces = _SPACE.split(text)
    for word, space in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        *first, last = _split(word) if word else [""]
        yield from first
        if "\n" in space or not last:
            yield last
            yield space
        else:
            yield last + space


def _split(word: str) -> list[str]:
    """What is dropped as one: the word, or in scripts without spaces each letter with its marks."""
    if not is_unspaced(word):
        return [word]
    units, begun = [], ""
    for cluster in CLUSTER.findall(word):
        if is_unspaced(cluster):
            units += [begun, cluster] if begun else [cluster]
            begun = ""
        else:
            begun += cluster
    return [*units, begun] if begun else units


def shuffled(text: str, config: Shuffle, draw: random.Random) -> str:
    """The paragraphs in another order, as many in a row as `within` says; the empty lines between stay in place."""
    pieces = _PARTED.split(text)
    places = [place for place in range(0, len(pieces), 2) if pieces[place].strip()]
    size = config.within or max(1, len(places))
    for start in range(0, len(places), size):
        block = places[start : start + size]
        paragraphs = [pieces[place] for place in block]
        draw.shuffle(paragraphs)
        for place, paragraph in zip(block, paragraphs, strict=True):
            pieces[place] = paragraph
    return "".join(pieces)
