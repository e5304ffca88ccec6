"""Lines that repeat across the pages of a site, such as navigation, notices of cookies and footers, and their removal.

A line is the site's where it stands on at least `MIN_PAGES` pages of a host and on more than `MIN_SHARE` of them; pages
with equal text count once. Lines of code and tables and headings never are: code repeats by its nature, and a heading
goes with what is below it, so that one that nothing is left of is removed. Two passes: `add` for
each page, then `without`. Memory: 8 bytes a line of all pages, 100 bytes a line that repeats and a page.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator

from tasks.collect.sections import is_heading, without_empty_sections

MIN_PAGES = 3
MIN_SHARE = 0.3
_FENCES = ("```", "~~~")


class SiteLines:
    """The lines of the pages of some hosts: first all pages are added, then each is cleaned."""

    def __init__(self) -> None:
        self._lines = array("Q")
        self._pages: Counter[str] = Counter()
        self._texts: set[int] = set()
        self._repeated: dict[int, int] | None = None

    def add(self, host: str, text: str) -> None:
        """Count the lines of a page."""
        assert self._repeated is None, "all pages are added before the first is cleaned"
        whole = _digest(host, text)
        if whole in self._texts:
            return
        self._texts.add(whole)
        self._pages[host] += 1
        self._lines.extend({_digest(host, line) for line, counts in _lines(text) if counts})

    def without(self, host: str, text: str) -> tuple[str, int]:
        """A page's text without the lines of its site, and how many were removed."""
        repeated = self._of_all()
        share = MIN_SHARE * self._pages[host]
        kept: list[str] = []
        removed = 0
        for line, counts in _lines(text):
            pages = repeated.get(_digest(host, line), 0) if counts else 0
            if pages >= MIN_PAGES and pages > share:
                removed += 1
            else:
                kept.append(line)
        if not removed:
            return text, 0
        return _joined(without_empty_sections(kept)), removed

    def _of_all(self) -> dict[int, int]:
        """How many pages each line stands on, of those that stand on enough of them."""
        if self._repeated is None:
            import numpy as np

            values, counts = np.unique(np.frombuffer(self._lines, dtype=np.uint64), return_counts=True)
            often = counts >= MIN_PAGES
            self._repeated = dict(zip(values[often].tolist(), counts[often].tolist(), strict=True))
            self._lines = array("Q")
        return self._repeated


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a text, and whether each can be a site's: not blank, no heading, not of code or a table."""
    fence = ""
    for line in text.split("\n"):
        mark = line[:3]
        if fence:
            fence = "" if mark == fence else fence
            yield line, False
        elif mark in _FENCES:
            fence = mark
            yield line, False
        else:
            yield line, bool(line.strip()) and not is_heading(line) and not line.startswith("|")


def _digest(host: str, text: str) -> int:
    data = f"{host}\0{' '.join(text.split())}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _joined(lines: list[str]) -> str:
    """Lines as text, with one blank line at most where some were removed."""
    kept: list[str] = []
    for line in lines:
        if line.strip() or (kept and kept[-1].strip()):
            kept.append(line)
    return "\n".join(kept).strip("\n")
