"""US social security numbers in running text: AAA-GG-SSSS, or nine digits behind a word that says so.

No number has the area 000, 666 or one from 900, the group 00 or the serial 0000 (Social Security Administration,
numbers since 2011). The pattern begins with the rare sign between its groups: linear in the text.
"""

import re
from collections.abc import Iterator

SSN = "000-00-0000"  # the area 000 is nobody's
_GROUPS = re.compile(r"-(?<=[0-9]{3}-)(?<![\w.,\-+/#$][0-9]{3}-)[0-9]{2}-[0-9]{4}(?![\w\-/]|[.,:][0-9])")
_SPACED = re.compile(r" (?<=[0-9]{3} )(?<![\w.,\-+/#=:$][0-9]{3} )[0-9]{2} [0-9]{4}(?![\w\-/]|[.,:][0-9])")
_WHOLE = re.compile(r"(?<![\w.,\-+/#])[0-9]{9}(?![\w\-/]|[.,:][0-9])")
_WORD = re.compile(
    r"(?:\bssn|\bsocial\s+security(?:\s+(?:number|no|nr|num))?)\b\W{0,3}(?:(?:is|was|number|no)\b\W{0,3})?$", re.I
)
_SIGNS = (":", "=")  # a time, a parameter of an address, or what a word before it names
_BEFORE_CHARACTERS = 40


def ssn_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where social security numbers are; with spaces between groups, or with none, only behind a word for one."""
    for match in _GROUPS.finditer(text):
        start = match.start() - 3
        if text[start - 1 : start] in _SIGNS and not _is_named(text, start):
            continue
        if _is_given_out(text[start : match.end()]):
            yield start, match.end()
    if "ssn" in (lowered := text.lower()) or "social security" in lowered:
        spaced = ((match.start() - 3, match.end()) for match in _SPACED.finditer(text))
        for start, end in (*spaced, *(match.span() for match in _WHOLE.finditer(text))):
            if _is_named(text, start) and _is_given_out(text[start:end]):
                yield start, end


def _is_named(text: str, start: int) -> bool:
    return _WORD.search(text[max(0, start - _BEFORE_CHARACTERS) : start]) is not None


def _is_given_out(number: str) -> bool:
    digits = "".join(filter(str.isdigit, number))
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
