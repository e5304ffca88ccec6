"""Byte-pair merges from counted words: the ones that the trainer of `tokenizers` finds, ties included.

The commonest pair of neighbours becomes a token, then the commonest of what is there now, until the vocabulary is full
(Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"). Of pairs that are equally common
the one with the lower ids is first.

All words lie behind one another in arrays: symbol, and the places of its neighbours. Each pair has the places where it
was seen; those where something else has been merged since are passed over. So a merge costs a few operations on arrays
of the places that it changes: some 0.1 ms, and in all about 50 bytes for each byte of the distinct words.

Where two merges give the same text (`ab` + `c`, `a` + `bc`) there is one token for both. `tokenizers` lets the counts
of merged pairs stand then, and so is it done here: such a pair may come back, and counts as much as before and more.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]  # symbols, and places of symbols
Keys = npt.NDArray[np.int64]  # pairs, and weights
Counted = tuple[Keys, Keys]  # pairs and a weight of each, in which a pair may be several times
Merge = tuple[int, int]

_GONE = -2  # the symbol of a place that was merged into the one before
_NONE = -1  # the symbol before a word and behind it
_SECOND = (1 << 32) - 1
_FIRST = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Learned:
    """The texts of all tokens by id, and the merges in the order in which they are applied."""

    tokens: tuple[bytes, ...]
    merges: tuple[Merge, ...]


def learn_merges(words: Mapping[bytes, int], alphabet: Sequence[bytes], most_tokens: int, fewest: int) -> Learned:
    """Merges of words with their counts, until there are `most_tokens` or no pair is seen `fewest` times.

    The first tokens are those of the alphabet: each single byte, in an order that decides between equal counts.
    """
    places = _Places(words, alphabet)
    queue = _Queue()
    queue.add(*places.pairs())
    numbers = {token: number for number, token in enumerate(alphabet)}
    tokens, merges = list(alphabet), dict[Merge, None]()
    while len(tokens) < most_tokens and (found := queue.commonest(fewest, places.word)) is not None:
        (first, second), at = found
        text = tokens[first] + tokens[second]
        number = numbers.setdefault(text, len(tokens))
        if number == len(tokens):
            tokens.append(text)
        merges.pop((first, second), None)  # one that comes back is applied at its later place
        merges[first, second] = None
        queue.add(*places.merge((first, second), at, number))
    return Learned(tuple(tokens), tuple(merges))


class _Places:
    """The symbols of all words, and where they are."""

    def __init__(self, words: Mapping[bytes, int], alphabet: Sequence[bytes]) -> None:
        long = [word for word in words if len(word) > 1]
        lengths = np.array([len(word) for word in long], np.int64)
        ends = np.cumsum(lengths)
        size = int(ends[-1]) if long else 0
        table = np.argsort(np.frombuffer(b"".join(alphabet), np.uint8)).astype(np.int32)  # the number of each byte
        self.symbol = np.append(table[np.frombuffer(b"".join(long), np.uint8)], np.int32(_NONE))
        self.before = np.arange(-1, size, dtype=np.int32)
        self.behind = np.arange(1, size + 2, dtype=np.int32)
        self.before[ends - lengths] = self.behind[ends - 1] = size  # the place of no word: its own neighbour
        self.before[size] = self.behind[size] = size
        self.word = np.repeat(np.arange(len(long), dtype=np.int32), lengths)
        self.counts = np.array([words[word] for word in long], np.int64)

    def pairs(self) -> tuple[Counted, Counted, Ints]:
        """All pairs of neighbours, as `_Queue.add` takes them."""
        at = np.flatnonzero(self.symbol[self.behind[:-1]] != _NONE).astype(np.int32)
        keys = _keys(self.symbol[at], self.symbol[self.behind[at]])
        return (keys[:0], keys[:0]), (keys, self.counts[self.word[at]]), at

    def merge(self, pair: Merge, at: Ints, number: int) -> tuple[Counted, Counted, Ints]:
        """Put a token in place of a pair wherever it still is of the places given, from left to right in each word.

        Returns what this does to pairs, as `_Queue.add` takes it: those that are lost, and those that are new with
        their places.
        """
        first, second = pair
        at = at[self.symbol[at] == first]
        gone = self.behind[at]
        there = self.symbol[gone] == second
        at, gone = at[there], gone[there]
        if first == second:
            at = _every_second(np.sort(at), self.behind)
            gone = self.behind[at]
        left, right = self.before[at], self.behind[gone]
        after = self.symbol[right]  # as it was before the merges to its right
        self.symbol[at], self.symbol[gone] = number, _GONE
        joined = self.symbol[left] == _GONE  # the pair to the left was merged just now
        if joined.any():
            left[joined] = self.before[left[joined]]
        before = self.symbol[left]
        self.behind[at] = right
        has_left, has_right = before != _NONE, after != _NONE
        self.before[right[has_right]] = at[has_right]
        weights = self.counts[self.word[at]]
        before, after = before[has_left].astype(np.int64), after[has_right].astype(np.int64)
        changes = np.concatenate([weights[has_left], weights[has_right]])
        lost = np.concatenate([before << 32 | first, second << 32 | after])
        new = np.concatenate([before << 32 | number, number << 32 | after])
        return (lost, changes), (new, changes), np.concatenate([left[has_left], at[has_right]])


class _Queue:
    """Pairs by how common they are, each with the places where it was seen."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.entries: list[tuple[int, int, int]] = []  # less the count when it was put here, pair, number of the entry
        self.at: dict[int, dict[int, Ints]] = {}  # places by pair and number of the entry: several where it came back
        self.numbers = itertools.count()

    def add(self, lost: Counted, new: Counted, at: Ints) -> None:
        """Change the counts of pairs by weights, then put in each of the new ones with its places in `at`."""
        counts = self.counts
        for key, weight in zip(*_sums(*lost)[:2], strict=True):
            counts[key] = counts.get(key, 0) - weight
        keys, weights, order, starts = _sums(*new)
        at, ends = at[order], [*starts[1:], len(at)][: len(starts)]
        for key, weight, start, end in zip(keys, weights, starts, ends, strict=True):
            count = counts[key] = counts.get(key, 0) + weight
            if count > 0:
                number = next(self.numbers)
                heapq.heappush(self.entries, (-count, key, number))
                self.at.setdefault(key, {})[number] = at[start:end]

    def commonest(self, fewest: int, words: Ints) -> tuple[Merge, Ints] | None:
        """Take out the commonest pair and its places; None where the commonest is seen less than `fewest` times.

        `words` says which word each place is in.
        """
        while self.entries:
            count, key, number = heapq.heappop(self.entries)
            now = self.counts[key]
            if now != -count:
                heapq.heappush(self.entries, (-now, key, number))
                continue
            if now < fewest:
                return None
            entries = self.at[key]
            at = entries[number]
            if len(entries) > 1:  # wherever it is in the words of this entry
                everywhere = np.unique(np.concatenate(list(entries.values())))
                at = everywhere[np.isin(words[everywhere], words[at])]
            del entries[number]
            if not entries:
                del self.at[key]
            return (key >> 32, key & _SECOND), at
        return None


def _keys(first: Ints, second: Ints) -> Keys:
    """Pairs as numbers that are ordered as the pairs."""
    return first.astype(np.int64) << 32 | second


def _sums(keys: Keys, weights: Keys) -> tuple[list[int], list[int], Keys, list[int]]:
    """Each different key, its weights together, the order that sorts keys, and where each begins in it."""
    if not len(keys):
        return [], [], np.empty(0, np.int64), []
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate([_FIRST, starts])
    sums = np.add.reduceat(weights[order], starts)
    return ordered[starts].tolist(), sums.tolist(), order, starts.tolist()


def _every_second(at: Ints, behind: Ints) -> Ints:
    """Of sorted places that follow one another directly the first, the third and so on."""
    if not len(at):
        return at
    starts = np.concatenate([[True], at[1:] != behind[at[:-1]]])
    position = np.arange(len(at))
    run = np.maximum.accumulate(np.where(starts, position, 0))
    return at[(position - run) % 2 == 0]
