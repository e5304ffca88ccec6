"""Text in 80 columns, for everything that is printed for a person."""

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 80
_TOGETHER = "\x1f"  # takes the place of a space at which no line may end
_WHOLE = ("/", "http://", "https://")  # in a column: a path or an address stays on its line, spaces or not
NAMES = 12  # columns of the names of stages and lines, in front of what is said about them


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
    return [line.replace(_TOGETHER, " ") for line in lines] or [first.rstrip()]


def unbroken(text: str) -> str:
    """A command, for `wrapped`: it stays on one line."""
    return text.replace(" ", _TOGETHER)


def folded(text: str) -> str:
    """A text whose lines fit 80 columns: what does not fit goes on under the last column of its line.

    Columns are what two spaces or more set apart: `champion    none yet: this run trains from scratch`.
    """
    return "\n".join(folded_line for line in text.split("\n") for folded_line in _folded_line(line))


def _folded_line(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    gaps = [gap.end() for gap in re.finditer(r"^ +| {2,}", line) if gap.end() <= WIDTH // 2]
    indent = gaps[-1] if gaps else 0
    if indent and line[indent:].startswith(_WHOLE):
        return [line]
    return wrapped(line[indent:], line[:indent], " " * (indent or 2))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells below their heads; columns of numbers stand to the right."""
    columns = list(zip(heads, *rows, strict=True))
    right = [all(re.fullmatch(r"[\d.,]+", cell) for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        for line in (heads, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def for_stderr(message: str) -> str:
    """A message folded for a terminal; elsewhere its lines stay whole, for those who search a log."""
    return folded(message) if sys.stderr.isatty() else message


class Folding:
    """A text stream that prints every line in 80 columns."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write whole lines, as `print` does; returns the count of characters given."""
        return self._stream.write(folded(text))

    def flush(self) -> None:
        self._stream.flush()
