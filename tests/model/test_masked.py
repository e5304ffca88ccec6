"""Masked words: which tokens are hidden and how they are shown, what filling in is worth, and whole trainings."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_families import ENCODERS, scattered
from trainer_process import SHAPE, kill_and_resume, make_job, run_to_end, weights, write_walks

from model.batches import IGNORED
from model.job import Source, TrainingJob
from model.loss import learning_of
from model.masked import MaskedBatches, MaskedValidation
from model.packed import packed_phases
from model.parallel import Workers
from model.schedule import Schedule
from model.transformer import Transformer
from storage.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("untouched_process")
MASK = 63
ENCODER = dataclasses.replace(SHAPE, family="eurobert", mask_token=MASK)


def batches_of(folder: Path, seed: int = 1, share: float = 0.15) -> MaskedBatches:
    source = Source("masked", str(folder))
    return MaskedBatches(packed_phases(source, 16, 64, seed, 100), share, 0, MASK, 64, seed)


def test_of_the_tokens_fifteen_in_a_hundred_are_targets_and_shown_as_bert_shows_them(tmp_path: Path) -> None:
    batches = batches_of(write_walks(tmp_path))
    plain = np.concatenate([batches.packed.batch(step).inputs for step in range(100)])
    made = [batches.batch(step) for step in range(100)]
    shown, targets = (np.concatenate([getattr(one, name) for one in made]) for name in ("inputs", "targets"))
    hidden = targets != IGNORED
    assert (targets[hidden] == plain[hidden]).all() and (shown[~hidden] == plain[~hidden]).all()
    words = plain != 0  # what begins a document is never hidden
    assert not hidden[~words].any() and hidden[words].mean() == pytest.approx(0.15, abs=0.005)
    told = hidden & (plain != MASK)  # the walks know all tokens of the vocabulary
    masked, kept = shown[told] == MASK, shown[told] == plain[told]
    assert masked.mean() == pytest.approx(0.8, abs=0.02) and kept.mean() == pytest.approx(0.1, abs=0.02)
    assert len(np.unique(shown[told & (shown != plain)])) > 50  # any token of the vocabulary


def test_what_is_hidden_follows_from_seed_and_step_alone(tmp_path: Path) -> None:
    folder = write_walks(tmp_path)
    one, again, other = batches_of(folder), batches_of(folder), batches_of(folder, seed=2)
    one.batch(4)
    assert np.array_equal(one.batch(3).inputs, again.batch(3).inputs)
    hidden = [(batches.batch(step).targets != IGNORED).tobytes() for batches, step in ((one, 3), (one, 4), (other, 3))]
    assert len(set(hidden)) == 3


def test_filling_in_is_scored_on_the_same_tokens_each_time_whatever_stands_beside() -> None:
    """The figures of documents together are the means of those alone."""
    model = scattered(Transformer(ENCODERS["eurobert"]))
    random = np.random.default_rng(0)
    documents = [[0, *random.integers(8, 300, size).tolist()] for size in (130, 40, 64, 9, 63)]
    validation = MaskedValidation(documents, 0.3, 0)
    together = validation.figures(model, Workers(2))
    assert together == validation.figures(model, Workers(1))
    nats, right, count = 0.0, 0, 0
    for ids, hidden in validation.rows(64):
        shown = torch.tensor([np.where(hidden, 7, ids).tolist()])
        with torch.no_grad():
            scores = torch.log_softmax(model.logits(model(shown))[0], dim=-1)
        nats -= sum(float(scores[place, ids[place]]) for place in np.flatnonzero(hidden))
        right += sum(int(scores[place].argmax()) == ids[place] for place in np.flatnonzero(hidden))
        count += int(hidden.sum())
    assert together["loss"] == pytest.approx(nats / count, rel=1e-4)
    assert together["accuracy"] == pytest.approx(right / count, abs=1e-9)
    document, rightly, frequent = np.asarray(validation.outcomes).T
    first = MaskedValidation(documents[:1], 0.3, 0).rows(64)
    assert set(document) == set(range(5)) and (document == 0).sum() == sum(int(hidden.sum()) for _, hidden in first)
    assert rightly.mean() == together["accuracy"] and frequent.mean() == together["most_frequent"]


def test_the_most_frequent_token_is_beside() -> None:
    model = scattered(Transformer(ENCODERS["eurobert"]))
    figures = MaskedValidation([[0] + [9] * 40, [0, 5, 5, 5]], 0.9, 0).figures(model, Workers(1))
    assert 0.9 < figures["most_frequent"] < 1
    with pytest.raises(DataError, match="no token of the held-out documents is hidden"):
        MaskedValidation([[0, 0]], 0.9, 0).figures(model, Workers(1))


def test_a_model_that_sees_no_later_token_is_refused(tmp_path: Path) -> None:
    job = make_run(tmp_path, shape=SHAPE)
    with pytest.raises(ConfigError, match="a model of the family qwen3 sees no token after another"):
        learning_of(job).batches(job)


# A whole run ----------------------------------------------------------------------------------------------------


def make_run(folder: Path, **changes: Any) -> TrainingJob:
    tokens = Source("masked", str(write_walks(folder)))
    fields: dict[str, Any] = {"objective": "masked_words", "shape": ENCODER, "data": tokens, "masked_share": 0.15}
    fields |= {"validation": {"heldout": tokens}, "schedule": Schedule(40, 2, 10)}
    return make_job(folder, folder / "work", **fields | changes)


@pytest.mark.slow
def test_hidden_words_are_learned(tmp_path: Path) -> None:
    """A token of a walk is one more than the token before it, and one less than the one behind it."""
    job = make_run(tmp_path, schedule=Schedule(400, 5, 200), rows_per_step=16, micro_batch_tokens=1024)
    run_to_end(job)
    after = json.loads((Path(job.work) / "result.json").read_text())["after"]
    assert after["heldout_accuracy"] > 0.8 > 0.1 > after["heldout_most_frequent"] and after["heldout_loss"] < 1
    rows = [json.loads(line) for line in (Path(job.work) / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["bits_per_byte"] is None and rows[24]["validation_loss"] > after["heldout_loss"]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, job = make_run(tmp_path / "whole"), make_run(tmp_path / "killed")
    run_to_end(whole)
    kill_and_resume(job, 15)
    assert weights(job) == weights(whole)
