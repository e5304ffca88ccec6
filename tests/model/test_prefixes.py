"""Rows of shared prefixes: every token of a sequence sees that sequence alone, and no prefix is computed twice."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.prefixes import ancestors, attention_balance, lay_out, share_prefixes
from model.shape import Shape

ENDLESS = 10**9
# Few different ids, so that most sequences share something with another; some are large.
sequence_lists = st.lists(st.lists(st.sampled_from([1, 2, 70_000]), min_size=1, max_size=9), min_size=0, max_size=12)


def prefixes(sequences: list[list[int]]) -> set[tuple[int, ...]]:
    return {tuple(ids[:length]) for ids in sequences for length in range(1, len(ids) + 1)}


@given(sequence_lists, st.sampled_from([0.0, 3.0, 50.0, 1e6]), st.sampled_from([9, 20, ENDLESS]))
def test_each_token_sees_its_own_sequence_and_no_prefix_stands_twice_in_a_row(
    sequences: list[list[int]], balance: float, most: int
) -> None:
    groups = share_prefixes(sequences, balance, most)
    assert sorted(number for group in groups for number in group.members) == list(range(len(sequences)))
    for group in groups:
        row = lay_out(group, sequences)
        assert group.tokens == len(row.ids) == len(prefixes([sequences[number] for number in group.members])) <= most
        mask = ancestors(torch.from_numpy(row.ends)[None])[0, 0].numpy()
        for number, path in zip(group.members, row.paths, strict=True):
            assert row.ids[path].tolist() == sequences[number]
            assert row.positions[path].tolist() == list(range(len(path)))
            for depth, place in enumerate(path):
                assert np.flatnonzero(mask[place]).tolist() == path[: depth + 1].tolist()
        assert row.branches == any(len(path) < group.tokens for path in row.paths[-1:])


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=7), st.floats(0, 200))
def test_no_other_cut_of_the_sorted_sequences_costs_less(sequences: list[list[int]], balance: float) -> None:
    def cost(runs: list[list[list[int]]]) -> float:
        return sum(len(prefixes(run)) * (balance + len(prefixes(run))) for run in runs)

    ordered = sorted(sequences)
    least = min(
        cost([ordered[a:b] for a, b in itertools.pairwise([0, *cuts, len(ordered)])])
        for count in range(len(ordered))
        for cuts in itertools.combinations(range(1, len(ordered)), count)
    )
    found = [[sequences[number] for number in group.members] for group in share_prefixes(sequences, balance, ENDLESS)]
    assert abs(cost(found) - least) <= 1e-9 * least


def test_equal_sequences_and_those_that_go_on_cost_their_further_tokens_only() -> None:
    """2 + 2 further + 1 more; the row is still a plain sequence."""
    (group,) = share_prefixes([[5, 6, 7, 8], [5, 6], [5, 6, 7, 8], [5, 6, 7, 8, 9], [5, 6]], 1440.0, ENDLESS)
    assert group.tokens == 5
    assert not lay_out(group, [[5, 6, 7, 8], [5, 6], [5, 6, 7, 8], [5, 6, 7, 8, 9], [5, 6]]).branches


def test_few_shot_examples_are_read_once_for_several_questions_but_not_in_one_endless_row() -> None:
    """400 questions of 4 answers after 300 tokens in common: 547,000 tokens one by one, 151,000 with one row each.

    All in one row would be 31,500 tokens, and a thousand million pairs of tokens for each head.
    """
    generator = np.random.default_rng(0)
    examples = generator.integers(0, 8192, 300).tolist()
    requests = []
    for _ in range(400):
        question = examples + generator.integers(0, 8192, 30).tolist()
        requests += [question + generator.integers(0, 8192, 12).tolist() for _ in range(4)]
    balance = attention_balance(Shape(8192, 4, 256, 4, 2, 64, 704, 1024))
    groups = share_prefixes(requests, balance, ENDLESS)
    assert sum(group.tokens for group in groups) < 50_000
    assert max(group.tokens for group in groups) < 1_600
    assert all(group.tokens <= 500 for group in share_prefixes(requests, balance, 500))


def test_attention_weighs_as_much_as_its_operations() -> None:
    """Two operations for each weight of a block, four for each pair of tokens, head and head dimension."""
    weights = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48
    assert attention_balance(Shape(50, 2, 32, 2, 1, 16, 48, 16)) == 2 * weights / (4 * 2 * 16)
