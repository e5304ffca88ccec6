"""Pairs of tokens by how common they are, and which of them can be merged at once.

Two pairs of which neither begins with what the other ends with have no place in common, and merging one makes the other
no rarer. What a merge makes is no more common than a pair that was there: `x` and the new `ab` are where `x` and `a`
were. So it cannot come before what was next already, and where they are equal it is behind, for its ids are higher.
Hence the commonest pairs can be taken one after another, before the first of them is merged, as long as each is apart
from all before it. After a token twice nothing more is taken: in `aaa` the new one is beside the very pair that was
merged.

Most pairs never become common enough to be merged. They are in arrays alone; those that may be next are in a heap too.
"""

import heapq
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]  # symbols, places of symbols, numbers of pairs
Keys = npt.NDArray[np.int64]  # pairs as numbers that are ordered as the pairs, and weights
Pair = tuple[int, int]
Number = TypeVar("Number", np.int32, np.int64)

HEAP_GROWTH = 1 << 12  # entries that the heap gets at once at least
_SECOND = (1 << 32) - 1
_TAKEN = -1  # the level of an entry that was taken out


@dataclass(frozen=True, slots=True)
class Counted:
    """Pairs and a weight of each, in which a pair may be several times."""

    first: Ints
    second: Ints
    weights: Keys

    def __getitem__(self, some: npt.NDArray[np.bool_]) -> Self:
        return type(self)(self.first[some], self.second[some], self.weights[some])

    def and_then(self, other: Self) -> Self:
        """These, then others."""
        first, second = np.concatenate([self.first, other.first]), np.concatenate([self.second, other.second])
        return type(self)(first, second, np.concatenate([self.weights, other.weights]))

    def keys(self) -> Keys:
        """Pairs as numbers."""
        return self.first.astype(np.int64) << 32 | self.second


@dataclass(frozen=True, slots=True)
class Changes:
    """What merging a batch does to pairs: those that are lost, by number, and those that are new, with their places.

    Of the new ones some pass: merged away in turn by the same merge, or by a later one of the batch.
    """

    lost: Ints
    lost_weights: Keys
    new: Counted
    at: Ints
    passed_at_once: Counted
    passed_later: Counted

    @classmethod
    def only(cls, new: Counted, at: Ints) -> Self:
        """New pairs, and nothing lost."""
        none = np.zeros(len(at), np.bool_)
        return cls(at[:0], new.weights[:0], new, at, new[none], new[none])


class PairQueue:
    """Pairs by how common they are, each with the places where it was seen. Their numbers are in the order in which
    they came."""

    def __init__(self, fewest: int) -> None:
        """What is seen less than `fewest` times is not taken."""
        self.fewest = max(fewest, 1)
        self.entries, self.placed = 0, 0
        self.key = np.empty(0, np.int64)
        self.count = np.empty(0, np.int64)  # by number of the pair
        self.level = np.empty(0, np.int64)  # the count when the entry was last looked at
        self.start = np.zeros(1, np.int64)  # of the places of the entry; the next one's start is their end
        self.at = np.empty(0, np.int32)
        self.heap: list[tuple[int, int, int]] = []  # less the level, key, entry
        self.lowest = np.iinfo(np.int64).max  # level in the heap; lower ones are in the arrays alone
        self.firsts, self.seconds = set[int](), set[int]()  # of the pairs that were taken since the last change
        self.is_closed = False  # nothing more can be taken before the next change

    def commonest(self) -> Pair | None:
        """The commonest pair; None where it is not common enough, or not known before those taken are merged."""
        while not self.is_closed and self._fill_heap():
            level, key, entry = self.heap[0]
            first, second = key >> 32, key & _SECOND
            if first in self.seconds or second in self.firsts:
                return None
            now = int(self.count[entry])
            if now == -level:
                return (first, second) if now >= self.fewest else None
            self.level[entry] = now
            if now >= self.lowest:
                heapq.heapreplace(self.heap, (-now, key, entry))
            else:
                heapq.heappop(self.heap)
        return None

    def take(self) -> Ints:
        """Take out the commonest pair. Returns its places."""
        _, key, entry = heapq.heappop(self.heap)
        first, second = key >> 32, key & _SECOND
        self.level[entry] = _TAKEN
        self.is_closed = first == second
        self.firsts.add(first)
        self.seconds.add(second)
        return self.at[self.start[entry] : self.start[entry + 1]]

    def change(self, changes: Changes) -> Ints:
        """Count what is lost and new. Returns the number of each new pair, in their order."""
        self.firsts.clear()
        self.seconds.clear()
        self.is_closed = False
        np.subtract.at(self.count, changes.lost, changes.lost_weights)
        keys = changes.new.keys()
        if not len(keys):
            return np.empty(0, np.int32)
        order = np.argsort(keys)
        ordered = keys[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        different, sums = ordered[starts], np.add.reduceat(changes.new.weights[order], starts)
        np.subtract.at(sums, np.searchsorted(different, changes.passed_at_once.keys()), changes.passed_at_once.weights)
        pairs = self._add(different, sums, starts, changes.at[order])
        later = np.searchsorted(different, changes.passed_later.keys())
        np.subtract.at(self.count, pairs[later], changes.passed_later.weights)
        numbers = np.empty(len(keys), np.int32)
        numbers[order] = np.repeat(pairs, np.diff(np.append(starts, len(keys))))
        return numbers

    def _add(self, keys: Keys, counts: Keys, starts: Keys, at: Ints) -> Ints:
        """An entry for each key, in order, with its places from a start on. Returns the numbers of the pairs."""
        first, end, placed = self.entries, self.entries + len(keys), self.placed + len(at)
        self.key, self.count, self.level = (_long_enough(one, end) for one in (self.key, self.count, self.level))
        self.start, self.at = _long_enough(self.start, end + 1), _long_enough(self.at, placed)
        self.key[first:end], self.count[first:end] = keys, counts
        self.start[first:end], self.start[end] = starts + self.placed, placed
        self.at[self.placed : placed] = at
        self.entries, self.placed = end, placed
        self.level[first:end] = counts
        for entry in (np.flatnonzero(self.level[first:end] >= self.lowest) + first).tolist():
            heapq.heappush(self.heap, (-int(self.level[entry]), int(self.key[entry]), entry))
        return np.arange(first, end, dtype=np.int32)

    def _fill_heap(self) -> bool:
        """See that the heap has the commonest entry. Returns whether there is one."""
        if not self.heap and self.lowest > self.fewest:
            levels = self.level[: self.entries]
            some = np.flatnonzero((levels >= self.fewest) & (levels < self.lowest))
            self.lowest = self.fewest
            if len(some) > HEAP_GROWTH:
                self.lowest = int(np.partition(levels[some], -HEAP_GROWTH)[-HEAP_GROWTH])
                some = some[levels[some] >= self.lowest]
            self.heap = list(zip((-levels[some]).tolist(), self.key[some].tolist(), some.tolist(), strict=True))
            heapq.heapify(self.heap)
        return bool(self.heap)


def _long_enough(numbers: npt.NDArray[Number], length: int) -> npt.NDArray[Number]:
    """An array with room for so many numbers: itself, or its numbers in one half as long again."""
    if length <= len(numbers):
        return numbers
    longer = np.empty(max(length, len(numbers) * 3 // 2), numbers.dtype)
    longer[: len(numbers)] = numbers
    return longer
