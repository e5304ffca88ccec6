"""Batches: each row once an epoch, by the step number alone, and answers alone are scored."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.batches import IGNORED, Example, ExampleBatches, ExampleSet, permutation
from model.job import Source
from model.packed import PackedBatches, packed_phases
from storage.errors import DataError
from storage.token_order import Phase, Pieces, read_order, write_order
from storage.tokens import TokenSet, write_token_meta, write_token_shard

CONTEXT = 8


@pytest.fixture
def tokens(tmp_path: Path) -> TokenSet:
    """100 documents of 4 tokens (500 with their marks) in three shards, numbered so that none is twice."""
    write_token_meta(tmp_path, 1000)
    for shard, documents in enumerate([range(0, 30), range(30, 30), range(30, 100)]):
        rows = [(list(range(1 + 4 * d, 5 + 4 * d)), 10) for d in documents]
        write_token_shard(tmp_path, "train", shard, rows, 1000)
    return TokenSet(tmp_path, "train")


@given(st.integers(0, 300), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_a_permutation_holds_each_index_once(length: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(length, seed, epoch).tolist()) == list(range(length))


def test_permutations_differ_by_seed_and_epoch_and_never_change() -> None:
    """The literal holds the order for good: a change here would make every checkpoint resume wrongly."""
    assert permutation(8, 1, 0).tolist() == [4, 0, 1, 7, 5, 2, 3, 6]
    orders = {tuple(permutation(50, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize("steps", [0, 1, 20, 21, 50])
def test_rows_are_counted_as_the_steps_take_them(tokens: TokenSet, steps: int) -> None:
    batches = PackedBatches(tokens, CONTEXT, rows=3, seed=5)
    taken = [row for step in range(steps) for row in batches.batch(step).inputs.tolist()]
    times = batches.times_seen(steps)
    assert len(times) == (tokens.tokens - 1) // CONTEXT
    for row, count in enumerate(times.tolist()):
        assert taken.count(tokens.read(row * CONTEXT, (row + 1) * CONTEXT).tolist()) == count


def test_each_row_comes_once_an_epoch_and_the_target_is_the_next_token(tokens: TokenSet) -> None:
    batches = PackedBatches(tokens, CONTEXT, rows=2, seed=1)
    rows = (tokens.tokens - 1) // CONTEXT
    seen = []
    for step in range(rows // 2):
        batch = batches.batch(step)
        assert (batch.inputs[:, 1:] == batch.targets[:, :-1]).all()
        assert batch.valid == 2 * CONTEXT
        seen += [tuple(row) for row in batch.inputs.tolist()]
    expected = [tuple(tokens.read(r * CONTEXT, (r + 1) * CONTEXT).tolist()) for r in range(rows)]
    assert sorted(seen) == sorted(expected)
    assert seen != expected


def test_a_batch_depends_on_the_step_alone(tokens: TokenSet) -> None:
    forward = PackedBatches(tokens, CONTEXT, rows=3, seed=1)
    batches = [forward.batch(step) for step in range(60)]
    jumped = PackedBatches(tokens, CONTEXT, rows=3, seed=1)
    for step in (57, 3, 41):
        assert (jumped.batch(step).inputs == batches[step].inputs).all()


def test_too_little_text_is_an_error_that_names_the_fix(tokens: TokenSet) -> None:
    with pytest.raises(DataError, match="context_length"):
        PackedBatches(tokens, 500, rows=1, seed=1)


def write_examples(folder: Path, lengths: list[int]) -> ExampleSet:
    examples = [Example([0, 1, *([5] * n)], [6] * (n + 1) + [3], n + 1) for n in lengths]
    ExampleSet.write(folder, examples)
    return ExampleSet(folder)


def test_answers_alone_are_scored_and_padding_is_not(tmp_path: Path) -> None:
    examples = write_examples(tmp_path, [1, 4])
    batch = examples.batch(np.array([0, 1]))
    assert batch.inputs.tolist()[0] == [0, 1, 5, 6, 6] + [0] * 11
    assert batch.targets.tolist()[0] == [IGNORED, IGNORED, 6, 6, 3] + [IGNORED] * 11
    assert batch.targets.tolist()[1] == [IGNORED] * 5 + [6] * 5 + [3] + [IGNORED] * 5
    assert batch.valid == 3 + 6


def test_each_example_comes_once_an_epoch_with_others_of_its_length(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 1000).tolist()
    batches = ExampleBatches(write_examples(tmp_path, lengths), rows=16, seed=1)
    scored = cells = 0
    for step in range(63):
        batch = batches.batch(step)
        scored += batch.valid
        cells += batch.inputs.size
    assert scored == sum(n + 2 for n in lengths)
    needed = sum(2 * n + 3 for n in lengths)
    assert cells < 1.15 * needed  # unsorted, two thirds more
    assert (batches.batch(70).inputs.shape != batches.batch(7).inputs.shape) or (
        batches.batch(70).inputs != batches.batch(7).inputs
    ).any()


def test_the_first_epoch_goes_from_short_to_long_where_that_is_asked_for(tmp_path: Path) -> None:
    """All examples once, no batch with shorter ones than the batch before; the second epoch is as without."""
    examples = write_examples(tmp_path, [1 + (7 * number) % 50 for number in range(50)])
    ascending = ExampleBatches(examples, rows=8, seed=1, shortest_first=True)
    plain = ExampleBatches(examples, rows=8, seed=1)
    lengths = [np.sort((ascending.batch(step).targets != IGNORED).sum(axis=1)) for step in range(7)]
    assert sorted(np.concatenate(lengths).tolist()) == sorted((examples.index[:, 2] - examples.index[:, 1]).tolist())
    assert all(earlier[-1] <= later[0] for earlier, later in itertools.pairwise(lengths))
    assert all(np.array_equal(ascending.batch(step).inputs, plain.batch(step).inputs) for step in range(7, 14))
    again = ExampleBatches(examples, rows=8, seed=1, shortest_first=True)
    assert np.array_equal(again.batch(3).inputs, ascending.batch(3).inputs), "a batch depends on the step alone"


def test_lengths_come_in_few_sizes(tmp_path: Path) -> None:
    batches = ExampleBatches(write_examples(tmp_path, list(range(1, 60))), rows=4, seed=1)
    assert {batches.batch(step).inputs.shape[1] % 8 for step in range(15)} == {0}


def test_shares_and_parts_hold_every_row_in_order(tmp_path: Path) -> None:
    batch = ExampleBatches(write_examples(tmp_path, [5] * 7), rows=7, seed=1).batch(0)
    for parts in (batch.share(2), batch.share(3), batch.share(20), batch.split(40), batch.split(1)):
        assert (np.concatenate([part.inputs for part in parts]) == batch.inputs).all()
    assert [len(part.inputs) for part in batch.share(2)] == [4, 3]
    assert all(part.inputs.size <= 40 for part in batch.split(40))


def test_phases_are_read_one_after_another_in_their_shares_of_the_steps(tokens: TokenSet, tmp_path: Path) -> None:
    sizes = tokens.sizes()[:, 0]
    first, second = np.arange(0, 60), np.array([*range(60, 100), *range(60, 100)])
    phases = [Phase(0.3, _pieces(first, sizes)), Phase(0.7, _pieces(second, sizes))]
    (tmp_path / "order").mkdir()
    write_order(tmp_path / "order", phases)
    source = Source("packed", str(tmp_path), str(tmp_path / "order"))
    batches = packed_phases(source, CONTEXT, rows=2, seed=1, steps=20)
    assert [steps for _, steps in batches.phases] == [6, 14]
    for step in range(20):
        documents = (batches.batch(step).inputs - 1) // 4
        documents = documents[batches.batch(step).inputs > 0]
        assert (documents < 60).all() if step < 6 else (documents >= 60).all()
    assert batches.bytes_per_token == pytest.approx(2)


def _pieces(documents: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Pieces:
    return np.stack([documents, np.zeros_like(documents), sizes[documents]])


@given(st.data())
def test_an_order_reads_the_same_from_any_place(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    write_token_meta(folder, 1000)
    for shard, length in enumerate(lengths):
        write_token_shard(folder, "train", shard, [(list(range(1, 1 + length)), 2 * length)], 1000)
    tokens = TokenSet(folder, "train")
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    firsts = [data.draw(st.integers(0, lengths[number])) for number in chosen]
    sizes = [data.draw(st.integers(1, 1 + lengths[n] - first)) for n, first in zip(chosen, firsts, strict=True)]
    write_order(folder, [Phase(1.0, np.array([chosen, firsts, sizes]))])
    [(_, phase)] = read_order(folder, tokens)
    rows = zip(chosen, firsts, sizes, strict=True)
    whole = [token for n, first, size in rows for token in range(1 + lengths[n])[first : first + size]]
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert phase.tokens == len(whole) and phase.read(start, stop).tolist() == whole[start:stop]
    assert phase.pieces().tolist() == [chosen, firsts, sizes]
