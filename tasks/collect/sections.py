"""Headings of Markdown without a text below them: what is left where the text of a section was taken out."""

import re
from collections.abc import Sequence

_HEADING = re.compile(r"(#{1,6}) \S")
_DEEPEST = 7


def is_heading(line: str) -> bool:
    """Whether a line is a heading of Markdown."""
    return _HEADING.match(line) is not None


def without_empty_sections(lines: Sequence[str]) -> list[str]:
    """The lines; headings stay only where text follows before the next heading of their level or a higher one."""
    kept: list[str] = []
    deepest = 0  # headings above this level have text below them, looking from the end
    for line in reversed(lines):
        heading = _HEADING.match(line)
        if heading is None:
            kept.append(line)
            deepest = _DEEPEST if line.strip() else deepest
        elif deepest > len(heading[1]):
            kept.append(line)
            deepest = len(heading[1])
    return kept[::-1]
