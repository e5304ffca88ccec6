"""Byte-pair merges from counted words: the ones that the trainer of `tokenizers` finds, ties included.

The commonest pair of neighbours becomes a token, then the commonest of what is there now, until the vocabulary is full
(Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"). Of pairs that are equally common
the one with the lower ids is first.

All words lie behind one another in arrays: symbol, the places of its neighbours, and the pair that begins there. Each
pair has the places where it was seen; those where something else has been merged since are passed over.

Pairs are merged many at once, so that a few operations on arrays do the work of dozens of merges (`pair_queue.py` says
why this changes nothing). In all some 30 microseconds a token, and about 50 bytes for each byte of the distinct words.

No two merges give the same text (`ab` + `c`, `a` + `bc`), and no pair comes back: inside what becomes one token nothing
is merged with what is outside, so that the same text is merged within itself in the same way wherever it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.tokenize.pair_queue import Changes, Counted, Ints, Pair, PairQueue

_GONE = -2  # the symbol of a place that was merged into the one before
_NONE = -1  # the symbol before a word and behind it


@dataclass(frozen=True, slots=True)
class Learned:
    """The texts of all tokens by id, and the merges in the order in which they are applied."""

    tokens: tuple[bytes, ...]
    merges: tuple[Pair, ...]


def learn_merges(words: Mapping[bytes, int], alphabet: Sequence[bytes], most_tokens: int, fewest: int) -> Learned:
    """Merges of words with their counts, until there are `most_tokens` or no pair is seen `fewest` times.

    The first tokens are those of the alphabet: each single byte, in an order that decides between equal counts.
    """
    places = _Places(words, alphabet)
    queue = PairQueue(fewest)
    places.begin(queue)
    tokens, merges = list(alphabet), list[Pair]()
    while len(tokens) < most_tokens:
        first_number, batch = len(tokens), list[tuple[Pair, Ints]]()
        while len(tokens) < most_tokens and (pair := queue.commonest()) is not None:
            batch.append((pair, queue.take()))
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
        if not batch:
            break
        places.merge(batch, first_number, queue)
        merges += [pair for pair, _ in batch]
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
        self.pair = np.zeros(size, np.int32)

    def begin(self, queue: PairQueue) -> None:
        """Put all pairs of neighbours into a queue."""
        at = np.flatnonzero(self.symbol[self.behind[:-1]] != _NONE).astype(np.int32)
        seen = Counted(self.symbol[at], self.symbol[self.behind[at]], self.counts[self.word[at]])
        self.pair[at] = queue.change(Changes.only(seen, at))

    def merge(self, batch: list[tuple[Pair, Ints]], first_number: int, queue: PairQueue) -> None:
        """Put a token in place of each pair of a batch wherever it still is of the places given, and count the pairs.

        The token of the first pair has that number, those of the others the next ones. Pairs are lost and new as if
        they were merged one after the other, each from left to right.
        """
        at, gone, rank = self._still(batch)
        left, right, number = self.before[at], self.behind[gone], first_number + rank
        first, second, before, after = (self.symbol[where] for where in (at, gone, left, right))
        self.symbol[at], self.symbol[gone] = number, _GONE
        made = self.symbol[right]
        right_rank = made - first_number
        right_merged = made != after
        is_right_first = right_merged & (right_rank < rank)  # what is to the right has been merged by then
        after = np.where(is_right_first, made, after)
        joined = self.symbol[left] == _GONE
        whole = np.where(joined, self.before[left], left)
        made = self.symbol[whole]
        left_rank = made - first_number
        is_left_first = joined & (left_rank <= rank)
        before, start = np.where(is_left_first, made, before), np.where(is_left_first, whole, left)
        self.behind[at] = right
        has_left, has_right = before != _NONE, after != _NONE
        self.before[right[has_right]] = at[has_right]

        weight = self.counts[self.word[at]]
        to_left, to_right = has_left & ~is_left_first, has_right & ~is_right_first
        gone_pairs = np.concatenate([self.pair[left[to_left]], self.pair[gone[to_right]]])
        new = Counted(before, number, weight)[has_left].and_then(Counted(number, after, weight)[has_right])
        places = np.concatenate([start[has_left], at[has_right]])
        lasting = np.concatenate([(~joined | is_left_first)[has_left], (~right_merged | is_right_first)[has_right]])
        at_once, later = is_left_first & (left_rank == rank), is_left_first & (left_rank < rank)
        passing = Counted(before, first, weight)
        changes = Changes(
            lost=gone_pairs,
            lost_weights=np.concatenate([weight[to_left], weight[to_right]]),
            new=new,
            at=places,
            passed_at_once=passing[at_once],
            passed_later=passing[later].and_then(Counted(second, after, weight)[is_right_first]),
        )
        pairs = queue.change(changes)
        self.pair[places[lasting]] = pairs[lasting]

    def _still(self, batch: list[tuple[Pair, Ints]]) -> tuple[Ints, Ints, Ints]:
        """The places of the pairs that are still there, where their second symbols are, and which pair each is of."""
        pairs = np.array([pair for pair, _ in batch], np.int32)
        at = np.concatenate([places for _, places in batch])
        rank = np.repeat(np.arange(len(batch), dtype=np.int32), [len(places) for _, places in batch])
        gone = self.behind[at]
        there = (self.symbol[at] == pairs[rank, 0]) & (self.symbol[gone] == pairs[rank, 1])
        at, rank = at[there], rank[there]
        if (pairs[:, 0] == pairs[:, 1]).any():
            order = np.argsort(at)
            order = order[_every_second(at[order], self.behind)]
            at, rank = at[order], rank[order]
        return at, self.behind[at], rank


def _every_second(at: Ints, behind: Ints) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Of sorted places that follow one another directly the first, the third and so on."""
    starts = np.ones(len(at), np.bool_)
    starts[1:] = at[1:] != behind[at[:-1]]
    position = np.arange(len(at))
    run = np.maximum.accumulate(np.where(starts, position, 0))
    return (position - run) % 2 == 0
