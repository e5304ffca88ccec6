"""Text in 80 columns, for everything that is printed for a person."""

import textwrap
from collections.abc import Iterable

WIDTH = 80
NAMES = 12  # columns of the names of stages and lines, in front of what is said of them


def wrapped(text: str, first: str = "", rest: str | None = None, *, most: int | None = None) -> list[str]:
    """A text in lines of at most 80 columns: `first` begins the first one, `rest` those that follow.

    Without `rest` they are indented as far as `first` reaches. A word that is longer than a line, such as a path or an
    address, is not cut: it ends its line. `most` cuts what would need more lines.
    """
    rest = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=most,
        placeholder=" ...",
    )
    return lines or [first.rstrip()]


def wrapped_paragraphs(text: str, first: str = "") -> list[str]:
    """Each line of a text by itself, with the indent that it has."""
    lines: list[str] = []
    for number, line in enumerate(text.split("\n")):
        told = line.lstrip(" ")
        indent = " " * (len(line) - len(told))
        lines += wrapped(told, first + indent if number == 0 else indent, indent or "  ")
    return lines


def listed(names: Iterable[str]) -> str:
    """Names in a message: `collect, filter`; `none` where there are none."""
    return ", ".join(names) or "none"
