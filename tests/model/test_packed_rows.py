"""Whole documents in rows: every token once a pass or counted as lost, by the step number alone, in equal shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainer_process import curve, kill_and_resume, make_job, run_to_end, weights, write_walks

from model.batches import IGNORED, PADDING, Batch
from model.job import Source
from model.loss import hidden_states, learning_of
from model.packed import PhasedBatches, packed_phases
from model.packing import WINDOW, best_fit
from model.shape import Shape
from model.transformer import Transformer
from storage.errors import ConfigError
from storage.token_order import Phase, write_order
from storage.tokens import TokenSet, write_token_meta, write_token_shard

MARK, VOCABULARY = 0, 60_000
lengths_of_texts = st.lists(st.lists(st.integers(0, 40), max_size=12), min_size=1, max_size=3).filter(any)


def write_set(folder: Path, shards: list[list[int]]) -> TokenSet:
    """Documents of so many tokens beside their mark; no token is there twice."""
    write_token_meta(folder, VOCABULARY)
    number = 1
    for shard, lengths in enumerate(shards):
        starts = number + np.cumsum([0, *lengths])
        rows = [(list(range(start, start + length)), length) for start, length in zip(starts, lengths, strict=False)]
        write_token_shard(folder, "train", shard, rows, VOCABULARY)
        number = int(starts[-1])
    return TokenSet(folder, "train")


def fitted(folder: Path, context: int, rows: int, seed: int = 1, order: str = "", apart: bool = True) -> PhasedBatches:
    return packed_phases(Source("packed", str(folder), order), context, rows, seed, 100, packing=True, apart=apart)


def a_pass(batches: PhasedBatches) -> Batch:
    """All rows of one pass, in batches of one row."""
    found = [batches.batch(step) for step in range(batches.packed().rows)]
    segments = np.concatenate([one.segments for one in found if one.segments is not None])
    return Batch(
        np.concatenate([one.inputs for one in found]), np.concatenate([one.targets for one in found]), segments
    )


@given(lengths_of_texts, st.integers(8, 24), st.integers(0, 99))
def test_every_token_is_read_once_a_pass_and_its_target_follows_it(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], context: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    tokens = write_set(folder, shards)
    batches = fitted(folder, context, 1, seed)
    rows, said = a_pass(batches), batches.packed()
    assert rows.segments is not None
    is_read = rows.segments != PADDING
    everything = tokens.read(0, tokens.tokens)
    assert Counter(rows.inputs[is_read].tolist()) == Counter(everything.tolist()), "none twice, none lost"
    assert said.lost_tokens == 0 and said.padding_tokens == int((~is_read).sum())
    assert (rows.targets[~is_read] == IGNORED).all() and (rows.targets[is_read] != IGNORED).all()
    followed = dict(zip(everything.tolist(), [*everything[1:].tolist(), MARK], strict=True))
    for token, target in zip(rows.inputs[is_read].tolist(), rows.targets[is_read].tolist(), strict=True):
        assert target == followed[token] or token == MARK
    longer = sum(1 + length > context for shard in shards for length in shard)
    assert said.cut_documents == longer, "only what is longer than a row is cut"


@given(lengths_of_texts, st.integers(8, 24))
def test_a_segment_is_one_piece_of_one_document(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], context: int
) -> None:
    write_set(folder := tmp_path_factory.mktemp("tokens"), shards)
    rows = a_pass(fitted(folder, context, 1))
    assert rows.segments is not None
    for inputs, segments in zip(rows.inputs, rows.segments, strict=True):
        for segment in set(segments.tolist()) - {PADDING}:
            piece = inputs[segments == segment]
            assert (piece[1:] != MARK).all(), "no second document in it"
            assert (np.diff(piece[piece != MARK]) == 1).all(), "one after another"


@given(lengths_of_texts, st.integers(8, 24), st.integers(1, 5), st.integers(0, 40), st.integers(1, 4))
def test_a_batch_depends_on_the_step_alone_and_shares_hold_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], context: int, rows: int, step: int, workers: int
) -> None:
    write_set(folder := tmp_path_factory.mktemp("tokens"), shards)
    straight, jumped = (fitted(folder, context, rows) for _ in range(2))
    for earlier in range(step):
        straight.batch(earlier)
    whole, again = straight.batch(step), jumped.batch(step)
    shares = again.share(workers)
    assert whole.segments is not None
    for name in ("inputs", "targets", "segments"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(share, name) for share in shares]))


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(8, 64))
def test_no_row_is_left_emptier_than_it_must(lengths: list[int], context: int) -> None:
    """Best fit opens a row only where no other has room: no two rows fit into one, and none is beyond its length."""
    plan = best_fit(np.cumsum(np.array(lengths, np.int64)), context)
    filled = np.add.reduceat(plan.sizes, plan.borders[:-1]) if plan.rows else np.empty(0, np.int64)
    assert (filled <= context).all() and filled.sum() == sum(lengths)
    two = np.sort(filled)[:2]
    assert len(two) < 2 or two.sum() > context


def test_windows_join_to_one_plan() -> None:
    """What is held at once is bounded: documents beyond a window are in rows of their own, and none is missing."""
    sizes = np.random.default_rng(3).integers(1, 100, WINDOW + 50)
    plan = best_fit(np.cumsum(sizes), 64)
    order = np.argsort(plan.begins)
    assert (plan.begins[order][1:] == (plan.begins + plan.sizes)[order][:-1]).all() and plan.sizes.sum() == sizes.sum()
    assert int(plan.is_last.sum()) == len(sizes)
    first = best_fit(np.cumsum(sizes[:WINDOW]), 64)
    assert (plan.borders[: len(first.borders)] == first.borders).all()


def test_the_order_of_a_mix_is_packed_phase_by_phase(tmp_path: Path) -> None:
    tokens = write_set(tmp_path, [[3, 9, 30], [5, 1]])
    sizes = tokens.sizes()[:, 0]
    pieces = [np.array([[0, 2, 0], [0, 0, 0], [4, 20, 4]]), np.array([[1, 3, 4], [0, 0, 0], sizes[[1, 3, 4]]])]
    (tmp_path / "order").mkdir()
    write_order(tmp_path / "order", [Phase(0.5, pieces[0]), Phase(0.5, pieces[1])])
    batches = fitted(tmp_path, 8, 1, order=str(tmp_path / "order"))
    assert batches.packed().padding_tokens == batches.packed().rows * 8 - 28 - 18
    read = Counter(token for step in range(4) for token in scored(batches.batch(step)))
    document = [tokens.document(number).tolist() for number in range(5)]
    assert read == Counter([*document[0], *document[2][:20], *document[0]])
    assert {token for step in range(50, 60) for token in scored(batches.batch(step))} == {
        token for number in (1, 3, 4) for token in document[number]
    }
    assert "train-00000:2" in batches.held(0) + batches.held(1) + batches.held(2)


def scored(batch: Batch) -> list[int]:
    found: list[int] = batch.inputs[batch.targets != IGNORED].tolist()
    return found


@pytest.mark.parametrize("packing", [False, True])
def test_masked_documents_do_not_see_each_other(tmp_path: Path, packing: bool) -> None:
    """A document's states in a row are those that it has alone, in a stream too."""
    write_set(tmp_path, [[4, 6, 3, 7, 5, 2, 9]])
    source = Source("packed", str(tmp_path))
    batches = packed_phases(source, 16, 2, 1, 10, packing=packing, apart=True)
    torch.manual_seed(0)
    model = Transformer(Shape(VOCABULARY, 2, 16, 2, 1, 8, 16, 16)).eval()
    batch = batches.batch(0)
    assert batch.segments is not None
    with torch.inference_mode():
        together = hidden_states(model, batch)
        for row, segments in enumerate(batch.segments):
            for segment in set(segments.tolist()) - {PADDING}:
                here = segments == segment
                assert (batch.inputs[row, here][1:] != MARK).all(), "one document"
                alone = model(torch.from_numpy(batch.inputs[row, here])[None])
                torch.testing.assert_close(together[row, here], alone[0])


def test_a_stream_and_whole_documents_say_what_they_leave_out(tmp_path: Path) -> None:
    write_set(tmp_path, [[4, 6], [2, 20]])
    source = Source("packed", str(tmp_path))
    stream, whole = (packed_phases(source, 8, 1, 1, 10, packing=packing).packed() for packing in (False, True))
    assert (stream.rows, stream.cut_documents, stream.lost_tokens, stream.padding_tokens) == (4, 2, 4, 0)
    assert (whole.rows, whole.cut_documents, whole.lost_tokens, whole.padding_tokens) == (5, 1, 0, 4)


@pytest.mark.parametrize("rows", [{}, {"apart": True}, {"packing": True, "apart": True}])
def test_short_rows_come_first_and_hold_the_same_tokens(tmp_path: Path, rows: dict[str, bool]) -> None:
    """Of 16 tokens in rows of 4 for three steps, of 8 for three, and whole after them."""
    source = Source("packed", str(written(tmp_path / "tokens")))
    jobs = [
        make_job(tmp_path, tmp_path / "work", objective="next_token", data=source, **rows, short_steps=short)
        for short in (6, 0)
    ]
    short, whole = (learning_of(job).batches(job) for job in jobs)
    assert short.bytes_per_token == whole.bytes_per_token
    for step in range(9):
        found, expected = short.batch(step), whole.batch(step)
        assert found.inputs.shape == {0: (32, 4), 1: (16, 8), 2: (8, 16)}[step // 3]
        for name in ("inputs", "targets", "segments"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert (ours is None) is (theirs is None)
            assert ours is None or ours.ravel().tolist() == theirs.ravel().tolist()
        assert short.held(step) == whole.held(step)


def test_a_row_that_cannot_be_cut_evenly_is_refused(tmp_path: Path) -> None:
    source, shape = Source("packed", str(written(tmp_path / "tokens"))), Shape(64, 1, 16, 2, 1, 8, 16, 18)
    job = make_job(tmp_path, tmp_path / "work", data=source, shape=shape, short_steps=6)
    with pytest.raises(ConfigError, match="context_length 18 cannot be cut in 4"):
        learning_of(job).batches(job)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "sharded"), [(1, False), (2, False), (2, True)])
def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path, processes: int, sharded: bool) -> None:
    """And any number of processes loses what one loses."""
    walks = written(tmp_path / "tokens")
    rows = {"packing": True, "apart": True, "short_steps": 30}
    changes = {**rows, "processes": processes, "sharded": sharded}
    one = make_job(walks, tmp_path / "one", **rows)
    whole, killed = (make_job(walks, tmp_path / name, **changes) for name in ("whole", "killed"))
    run_to_end(one)
    run_to_end(whole)
    kill_and_resume(killed, 10, 25, 41)
    assert weights(killed) == weights(whole)
    assert [row["loss"] for row in curve(whole)] == pytest.approx([row["loss"] for row in curve(one)], rel=1e-4)
    assert {row["tokens"] for row in curve(one)} == {row["tokens"] for row in curve(whole)}


def written(folder: Path) -> Path:
    folder.mkdir()
    return write_walks(folder)


def test_hidden_words_are_read_as_a_stream(tmp_path: Path) -> None:
    shape = Shape(64, 1, 16, 2, 1, 8, 16, 16, family="eurobert", mask_token=5)
    for changes in ({"packing": True}, {"apart": True}, {"short_steps": 3}):
        source = Source("masked", str(written(tmp_path / next(iter(changes)))))
        job = make_job(tmp_path, tmp_path / "work", objective="masked_words", shape=shape, data=source, **changes)
        with pytest.raises(ConfigError, match="masked_words"):
            learning_of(job).batches(job)
