"""Text in 80 columns, for everything that is printed for a person."""

import textwrap

WIDTH = 80
_TOGETHER = "\x1f"  # stands for a space at which no line ends
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
    return [line.replace(_TOGETHER, " ") for line in lines] or [first.rstrip()]


def unbroken(text: str) -> str:
    """A command, for `wrapped`: it stays on one line."""
    return text.replace(" ", _TOGETHER)
