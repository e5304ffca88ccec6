"""Sequences that begin alike are computed once: a row holds the tree of their prefixes.

Sorted, each sequence is beside those that it shares most with. A row is a run of them, laid out as a depth-first
walk of their tree: tokens that a sequence shares with the one before it are not repeated, a token's position is its
depth, and it sees its ancestors and itself, so that each sequence is read as if it stood alone. The descendants of a
token are together; where they end is all that the attention mask has to know. A sequence that continues the one
before it costs its further tokens, an equal one nothing.

A row of T tokens costs T * (balance + T): matrix products grow with the tokens, attention with their square. So rows
must not grow without end; the cuts of least total cost are found by dynamic programming over the sorted sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.shape import Shape

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of one row, sorted, by their numbers; how many tokens each `shared` with the one before; all tokens."""

    members: list[int]
    shared: list[int]
    tokens: int


@dataclass(frozen=True, slots=True)
class Row:
    """A group laid out: ids, positions and ends of descendants (T,), and for each member the places of its tokens."""

    ids: Integers
    positions: Integers
    ends: Integers
    paths: list[Integers]

    @property
    def branches(self) -> bool:
        """Whether it is a tree and not one plain sequence."""
        return bool((self.ends != len(self.ids)).any())


def attention_balance(shape: Shape) -> float:
    """The length of row at which attention costs as much as the matrix products: 2 operations a weight and token in
    these, 4 a pair of tokens and head dimension in that."""
    projections = 2 * shape.width * shape.head_dim * (shape.heads + shape.key_value_heads)
    weights = projections + 3 * shape.width * shape.feed_forward
    return weights / (2 * shape.heads * shape.head_dim)


def share_prefixes(sequences: Sequence[Sequence[int]], balance: float, most_tokens: int) -> list[Group]:
    """Groups of least cost, none of several members above `most_tokens`; each sequence is in exactly one."""
    if not sequences:
        return []
    keys = [np.asarray(ids, ">u4").tobytes() for ids in sequences]  # bytes sort as their numbers do
    order = sorted(range(len(keys)), key=lambda number: (keys[number], number))
    shared = np.array([0, *(_common_tokens(keys[a], keys[b]) for a, b in pairwise(order))])
    lengths = np.array([len(sequences[number]) for number in order])
    added = np.cumsum(lengths - shared)  # tokens of the tree of all up to each
    least = np.zeros(len(order) + 1)
    starts = np.zeros(len(order), np.int64)
    first = 0
    for last in range(len(order)):
        if shared[last] == 0:
            first = last
        while first < last and lengths[first] + added[last] - added[first] > most_tokens:
            first += 1
        tokens = lengths[first : last + 1] + added[last] - added[first : last + 1]
        costs = least[first : last + 1] + tokens * (balance + tokens)
        chosen = int(costs.argmin())
        least[last + 1], starts[last] = costs[chosen], first + chosen
    groups = []
    end = len(order)
    while end:
        start = int(starts[end - 1])
        tokens = int(lengths[start] + added[end - 1] - added[start])
        groups.append(Group(order[start:end], [0, *shared[start + 1 : end].tolist()], tokens))
        end = start
    return groups[::-1]


def lay_out(group: Group, sequences: Sequence[Sequence[int]]) -> Row:
    """The row of a group; `sequences` are those that it was made from."""
    ids, positions, ends = (np.empty(group.tokens, np.int64) for _ in range(3))
    path = np.empty(max(len(sequences[number]) for number in group.members), np.int64)
    paths: list[Integers] = []
    size = depth = 0
    for number, shared in zip(group.members, group.shared, strict=True):
        sequence = sequences[number]
        ends[path[shared:depth]] = size  # of the branch before
        depth = len(sequence)
        grown = size + depth - shared
        ids[size:grown] = sequence[shared:]
        positions[size:grown] = np.arange(shared, depth)
        path[shared:depth] = np.arange(size, grown)
        paths.append(path[:depth].copy())
        size = grown
    ends[path[:depth]] = size
    return Row(ids, positions, ends, paths)


def ancestors(ends: Tensor) -> Tensor:
    """Which places (B, 1, T, T) each place sees, itself among them, from the ends of all descendants (B, T)."""
    places = torch.arange(ends.shape[1], device=ends.device)
    return ((places <= places[:, None]) & (places[:, None] < ends[:, None]))[:, None]


def _common_tokens(some: bytes, other: bytes) -> int:
    """How many tokens two keys begin with in common."""
    length = min(len(some), len(other)) // 4
    differ = np.frombuffer(some, np.uint32, length) != np.frombuffer(other, np.uint32, length)
    return int(differ.argmax()) if differ.any() else length
