"""Texts as word lists compare them: without case, without letters that nobody sees, cut into tokens.

A token is a run of letters, marks and digits: an entry of a list stands for whole words, and `ass` is not in `class`.
Where a script parts its words by no space (Chinese, Japanese, Thai, ...) each letter is a token, so an entry is found
wherever its letters follow each other; in Thai that may be inside a longer word, which only a dictionary could tell.

Folding: NFKC (full-width and styled letters), then case (`ß` is `ss`), and what is not seen left out (soft hyphens,
joiners, marks of direction). Letters of another script that look alike stay what they are.

Leet: digits and signs that are written for letters (`sh1t`, `a$$`), only within a run that has a letter: 455 stays a
number. A 1 stands for i, and for l.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from tasks.words import spaced

_LAST = 0x1F000  # behind it there are no marks but for variants of Han, and nothing else that is not seen but tags
_LEET = str.maketrans("0134578@$!", "oieastbasi")
_OTHER_ONE = str.maketrans("1", "l")
_RUN = re.compile(r"[a-z0-9@$!]*[a-z0-9@$]")
_SIGNS = re.compile(r"[0134578@$!]")
_LETTER = re.compile(r"[a-z]")


@cache
def _unseen() -> dict[int, None]:
    """The characters that nobody sees, for `str.translate`."""
    hidden = (code for code in range(_LAST) if unicodedata.category(chr(code)) == "Cf")
    return dict.fromkeys([*range(0xFE00, 0xFE10), *hidden])


@cache
def _token() -> re.Pattern[str]:
    """A run of letters, digits and combining marks."""
    codes = [code for code in range(_LAST) if unicodedata.category(chr(code))[0] == "M"]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    return re.compile(f"(?:[^\\W_]|[{marks}])+")


_ASCII_TOKEN = re.compile(r"[a-z0-9]+")


def folded(text: str) -> str:
    """The text without case and without what is not seen."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_unseen()).casefold())


def tokens(text: str) -> list[str]:
    """The tokens of a folded text."""
    return _ASCII_TOKEN.findall(text) if text.isascii() else _token().findall(spaced(text))


def without_leet(text: str) -> Iterator[str]:
    """A folded text with letters for the digits and signs that are written for them: no text where there are none,
    two where a 1 may be either of two letters."""
    if not _SIGNS.search(text):
        return
    first = _RUN.sub(_letters, text)
    if first == text:
        return
    yield first
    if "1" in text:
        yield _RUN.sub(lambda run: _letters(run, other=True), text)


def _letters(run: re.Match[str], other: bool = False) -> str:
    text = run[0]
    if not (_SIGNS.search(text) and _LETTER.search(text)):
        return text
    return (text.translate(_OTHER_ONE) if other else text).translate(_LEET)
