"""Text files of many documents: what is between two separators is one, in bounded memory.

Sets of stories are handed out like this: story, a line `<|endoftext|>`, story. Without a separator such a file is one
document, and the mark is learned as text; `MARKS` are those that are known, so that one can be proposed.
"""

from collections.abc import Iterable, Iterator

MARKS = ("<|endoftext|>", "<|end_of_text|>")
LEAST_MARKS = 2  # in a text, to be taken for separators: a page on tokenizers names one
_LINE_ENDS = b"\r\n"


class _Text:
    """The text under way: its pieces until they are more than `limit` bytes, and the line it starts on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._length, self._start, self._line = 0, 1, 1

    def add(self, piece: bytes) -> None:
        self._line += piece.count(b"\n")
        self._length += len(piece)
        if self._length > self._limit:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def end(self, mark: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The text with its line, if it is not blank; what follows starts behind the mark."""
        raw, start = b"".join(self._pieces), self._start
        too_long = self._length > self._limit
        self._pieces.clear()
        self._line += mark.count(b"\n")
        self._length, self._start = 0, self._line
        if too_long:
            yield start, None
        elif raw.strip():
            text = raw.lstrip(_LINE_ENDS)
            yield start + raw.count(b"\n", 0, len(raw) - len(text)), text.rstrip(_LINE_ENDS)


def split_parts(blocks: Iterable[bytes], separator: str, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """The texts between separators with the line that each starts on; None for one of more than `limit` bytes.

    Line ends beside a separator belong to it, and what is blank is not a text. The last, unfinished text of a stream
    that breaks is not yielded: BrokenStream passes through.
    """
    mark = separator.encode()
    text = _Text(limit)
    held = b""  # the end of what was read: it may be the beginning of a mark
    for block in blocks:
        *ended, rest = (held + block).split(mark)
        for piece in ended:
            text.add(piece)
            yield from text.end(mark)
        cut = max(0, len(rest) - len(mark) + 1)
        text.add(rest[:cut])
        held = rest[cut:]
    text.add(held)
    yield from text.end(mark)


def marks_in(text: str) -> tuple[str, int] | None:
    """A known mark that occurs in a text as if between documents, and how often."""
    for mark in MARKS:
        count = text.count(mark)
        if count >= LEAST_MARKS:
            return mark, count
    return None
