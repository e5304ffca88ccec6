"""JSON files -> records, without holding the file: an array of objects, or objects one after the other.

Elements are decoded one at a time from a sliding window. Strings with bytes that are not UTF-8 come with surrogates
in them (PEP 383), so that they spoil their own record only. Broken syntax ends the reading: JSON has no mark at which
a parser could start again (JSON lines have).
"""

import codecs
import json
import re
from collections.abc import Iterator

from tasks.collect.json_faults import json_fault
from tasks.collect.records import BadRecord, Record, TextFile, excerpt, too_long
from tasks.collect.unpack import BrokenStream

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODE = json.JSONDecoder().raw_decode


class _Window:
    """The part of a text file around the reading position."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.position, self.line = "", 0, 1
        self.ended = False

    def fill(self, characters: int) -> None:
        """Have at least so many characters ahead, or all that the file has left."""
        ahead = [self.text[self.position :]]
        length = len(ahead[0])
        while length < characters and not self.ended:
            block = next(self._blocks, b"")
            self.ended = not block
            ahead.append(self._decoder.decode(block, final=self.ended))
            length += len(ahead[-1])
        self.text, self.position = "".join(ahead), 0

    def next_mark(self) -> str:
        """The next character that is not blank, without taking it; empty at the end."""
        while True:
            blanks = _BLANKS.match(self.text, self.position)
            assert blanks is not None
            self.take(blanks.end())
            if self.position < len(self.text):
                return self.text[self.position]
            if self.ended:
                return ""
            self.fill(1)

    def take(self, end: int) -> str:
        """Move on to `end`; returns what was passed."""
        passed = self.text[self.position : end]
        self.line += passed.count("\n")
        self.position = end
        return passed

    @property
    def ahead(self) -> int:
        return len(self.text) - self.position


def read_json(text: TextFile, limit: int) -> Iterator[Record | BadRecord]:
    """The records of one .json file; `limit` is the longest record in characters."""
    window = _Window(text.blocks)
    try:
        yield from _elements(window, limit)
    except BrokenStream as broken:
        yield BadRecord(window.line, str(broken), rest_lost=True)


def _elements(window: _Window, limit: int) -> Iterator[Record | BadRecord]:
    if window.next_mark() == "\ufeff":
        window.take(window.position + 1)
    array = window.next_mark() == "["
    if array:
        window.take(window.position + 1)
    if window.next_mark() == ("]" if array else ""):
        yield BadRecord(window.line, "no record in the file")
        return
    while True:
        record, syntax_is_whole = _element(window, limit)
        yield record
        if not syntax_is_whole:
            return
        mark = window.next_mark()
        if array and mark == "]":
            window.take(window.position + 1)
            if window.next_mark():
                yield BadRecord(window.line, "malformed JSON (text after the end of the array)", rest_lost=True)
            return
        if array and mark == ",":
            window.take(window.position + 1)
        elif array:
            what = "a comma is missing" if mark else "the array is not closed: the file was cut"
            seen = excerpt(window.text[window.position :][:200])
            yield BadRecord(window.line, f"malformed JSON ({what})", seen, rest_lost=True)
            return
        elif not mark:
            return


def _element(window: _Window, limit: int) -> tuple[Record | BadRecord, bool]:
    """The next element, and whether the parser knows where it ends."""
    window.next_mark()
    line = window.line
    while True:
        try:
            value, end = _DECODE(window.text, window.position)
        except json.JSONDecodeError as error:
            if window.ended or window.ahead > limit:
                reason = too_long(limit) if window.ahead > limit else f"malformed JSON: {json_fault(error)}"
                reason += "; nothing after it could be read"
                seen = excerpt(window.text[window.position :][:500])
                return BadRecord(line, reason, seen, rest_lost=True), False
            window.fill(2 * window.ahead + 1)
        except (ValueError, RecursionError) as error:
            reason = f"malformed JSON ({type(error).__name__}): nothing after it could be read"
            return BadRecord(line, reason, rest_lost=True), False
        else:
            raw = window.take(end)
            if not isinstance(value, dict):
                return BadRecord(line, "not a JSON object", excerpt(raw[:500])), True
            return Record(line, value), True
