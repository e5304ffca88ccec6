"""Where documents go that are put whole into rows of one context: by their lengths alone.

Best-fit decreasing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): the longest document first, each
into the fullest row that has room for it. One that is longer than the context is cut into pieces of one context, a row
each, and what remains is packed like a document. So no token is lost; what is left of a row is padding. Documents are
taken WINDOW at a time, in the order of the sequence, so that what is held besides the plan is bounded. The plan has 25
bytes for each piece.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

WINDOW = 1 << 16  # documents that are packed together


@dataclass(frozen=True, slots=True)
class Packing:
    """Pieces of a sequence of tokens by row: row r has those from `borders[r]` to `borders[r + 1]`.

    Of each piece (pieces,): its first token in the sequence, how many it has, and whether its document ends with it.
    """

    begins: IntArray
    sizes: IntArray
    is_last: npt.NDArray[np.bool_]
    borders: IntArray

    @property
    def rows(self) -> int:
        return len(self.borders) - 1


def best_fit(ends: IntArray, length: int) -> Packing:
    """The plan for documents with these ends in a sequence of tokens, in rows of `length`."""
    begins = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
    windows = [slice(first, first + WINDOW) for first in range(0, len(ends), WINDOW)]
    parts = [_best_fit(begins[window], ends[window], length) for window in windows]
    nothing = np.zeros(1, np.int64)
    starts = np.cumsum([0, *(len(part.begins) for part in parts)])
    return Packing(
        begins=np.concatenate([nothing[:0], *(part.begins for part in parts)]),
        sizes=np.concatenate([nothing[:0], *(part.sizes for part in parts)]),
        is_last=np.concatenate([nothing[:0].astype(bool), *(part.is_last for part in parts)]),
        borders=np.concatenate(
            [nothing, *(part.borders[1:] + start for part, start in zip(parts, starts, strict=False))]
        ),
    )


def _best_fit(begins: IntArray, ends: IntArray, length: int) -> Packing:
    """The plan for the documents of one window."""
    whole, rest = np.divmod(ends - begins, length)
    number = np.arange(whole.sum()) - np.repeat(np.cumsum(whole) - whole, whole)  # of a piece in its document
    firsts = np.repeat(begins, whole) + number * length
    is_end = firsts + length == np.repeat(ends, whole)
    some = rest > 0
    rows = _fullest_with_room(rest[some], length)
    order = np.argsort(rows, kind="stable")
    return Packing(
        begins=np.concatenate([firsts, (ends - rest)[some][order]]),
        sizes=np.concatenate([np.full(len(firsts), length, np.int64), rest[some][order]]),
        is_last=np.concatenate([is_end, np.ones(len(rows), np.bool_)]),
        borders=np.cumsum(np.concatenate([[0], np.ones(len(firsts), np.int64), np.bincount(rows)])),
    )


def _fullest_with_room(sizes: IntArray, length: int) -> IntArray:
    """The number of the row for each piece: the longest first, of rows that are equally full the last one filled."""
    rows = np.empty(len(sizes), np.int64)
    by_room: dict[int, list[int]] = {}  # rows that are not full, by the tokens that they have room for
    rooms: list[int] = []  # the same numbers, ascending
    count = 0
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        place = bisect_left(rooms, size)
        if place == len(rooms):
            row, room = count, length
            count += 1
        else:
            room = rooms[place]
            row = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        rows[piece] = row
        left = room - size
        if left and left not in by_room:
            insort(rooms, left)
            by_room[left] = []
        if left:
            by_room[left].append(row)
    return rows
