"""Preferences: the losses and gradients of plain references, pairs that are never parted, and a run that is killed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from trainer_process import SHAPE, kill_and_resume, make_job, run_to_end, weights

from model.batches import IGNORED, Batch, Example
from model.job import Source, TrainingJob
from model.likelihood import score_continuations
from model.loss import learning_of, preferred_nats
from model.parallel import Workers, add_gradients
from model.preferences import (
    Preference,
    PreferenceBatches,
    PreferenceSet,
    PreferenceValidation,
    preference_losses,
    reward_gaps,
)
from model.schedule import Schedule
from model.transformer import Transformer, initialise, save_model
from storage.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("untouched_process")

DPO, SIMPO = Preference("dpo", 0.3), Preference("simpo", 2.0, 0.5)


def a_model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    return model


def examples(count: int, seed: int = 0) -> list[Example]:
    """So many preferences: after a word the next one is chosen, the one before it rejected."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        word, length = int(random.integers(8, 50)), int(random.integers(1, 5))
        prompt = [0, *random.integers(1, 64, length).tolist(), word]
        found += [Example(prompt, [word + 1, word + 2, 3], 2), Example(prompt, [word - 1, 3], 1)]
    return found


def write(folder: Path, count: int, model: Transformer | None = None, seed: int = 0) -> PreferenceSet:
    rows = examples(count, seed)
    reference = [0.0] * len(rows)
    if model is not None:
        reference = [nats for nats, _ in score_continuations(model, [(one.prompt, one.answer) for one in rows])]
    PreferenceSet.write(folder, rows, reference)
    return PreferenceSet(folder)


def plain_loss(settings: Preference, model: Transformer, batch: Batch) -> Tensor:
    """The papers' formulas on whole scores, differentiated by torch alone."""
    targets = torch.from_numpy(batch.targets)
    scores = F.log_softmax(model.logits(model(torch.from_numpy(batch.inputs))), dim=-1)
    scored = targets != IGNORED
    likelihoods = (scores.gather(2, targets.clamp(min=0)[..., None])[..., 0] * scored).sum(1)
    total = torch.zeros(())
    for chosen in range(0, len(targets), 2):
        rejected = chosen + 1
        if settings.method == "dpo":
            assert batch.reference is not None
            gap = (likelihoods[chosen] - batch.reference[chosen]) - (likelihoods[rejected] - batch.reference[rejected])
            total = total - F.logsigmoid(settings.beta * gap)
        else:
            rewards = settings.beta * likelihoods / scored.sum(1)
            total = total - F.logsigmoid(rewards[chosen] - rewards[rejected] - settings.margin)
    return total


@pytest.mark.parametrize("settings", [DPO, SIMPO], ids=["dpo", "simpo"])
def test_loss_and_gradient_are_those_of_the_papers(settings: Preference, tmp_path: Path) -> None:
    model = a_model()
    data = write(tmp_path, 6)
    data.reference[:] = np.random.default_rng(1).normal(-9, 2, 12)
    batch = data.batch(np.arange(6))
    expected = plain_loss(settings, model, batch)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    found = preferred_nats(settings, model, batch)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    for gradient, other in zip(torch.autograd.grad(found, list(model.parameters())), wanted, strict=True):
        assert torch.allclose(gradient, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [DPO, SIMPO], ids=["dpo", "simpo"])
@pytest.mark.parametrize(("micro_batch_tokens", "threads"), [(1, 1), (40, 2), (10_000, 3)])
def test_no_split_parts_a_preference(
    settings: Preference, micro_batch_tokens: int, threads: int, tmp_path: Path
) -> None:
    model = a_model()
    batch = write(tmp_path, 7, model).batch(np.arange(7))

    def loss(model: Transformer, part: Batch) -> Tensor:
        return preferred_nats(settings, model, part)

    add_gradients(model, batch, batch.losses, 10_000, loss, Workers(1))
    wanted = [parameter.grad for parameter in model.parameters()]
    lost = add_gradients(model, batch, batch.losses, micro_batch_tokens, loss, Workers(threads))
    assert float(lost) == pytest.approx(float(plain_loss(settings, model, batch)), rel=1e-5)
    assert batch.losses == 7
    for parameter, other in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None and other is not None
        assert torch.allclose(parameter.grad, other, atol=1e-6, rtol=1e-4)


def test_each_preference_comes_once_an_epoch(tmp_path: Path) -> None:
    data = write(tmp_path, 50)
    batches = PreferenceBatches(data, 8, seed=1)
    seen = []
    for step in range(7):
        batch = batches.batch(step)
        assert len(batch.inputs) % 2 == 0 and batch.together == 2
        seen += batch.inputs[0::2].tolist()
    assert len(seen) == 50


def test_figures_of_held_out_preferences(tmp_path: Path) -> None:
    """Against itself a model wins nothing and loses nothing; the figures are those of the formulas."""
    model = a_model().eval()
    same = PreferenceValidation(write(tmp_path / "same", 9, model), DPO).figures(model, Workers(1))
    assert same["loss"] == pytest.approx(np.log(2), rel=1e-5) and same["margin"] == pytest.approx(0, abs=1e-5)
    assert same["win_rate"] == 0.5
    data = write(tmp_path / "other", 9)
    figures = PreferenceValidation(data, DPO).figures(model, Workers(1))
    likelihoods = torch.tensor([nats for nats, _ in score_continuations(model, data.examples.requests())])
    gaps = reward_gaps(DPO, likelihoods, torch.ones(18), torch.zeros(18))
    assert figures["loss"] == pytest.approx(float(preference_losses(DPO, gaps).mean()), rel=1e-5)
    assert figures["win_rate"] == pytest.approx(float((gaps > 0).float().mean()))
    assert figures["margin"] == pytest.approx(float(gaps.mean()), rel=1e-5)


def test_no_preferences_and_no_settings_are_errors(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", 0)
    with pytest.raises(DataError, match="no preference to train on"):
        PreferenceBatches(empty, 8, 1)
    with pytest.raises(DataError, match="no held-out preference"):
        PreferenceValidation(empty, DPO)
    np.save(tmp_path / "empty" / "reference.npy", np.zeros(3))
    with pytest.raises(DataError, match="differ in number"):
        PreferenceSet(tmp_path / "empty")
    job = make_job(tmp_path, tmp_path / "w", objective="preferences", data=Source("preferences", str(tmp_path)))
    with pytest.raises(ConfigError, match="needs its settings"):
        learning_of(job).loss(job)


# A whole run ----------------------------------------------------------------------------------------------------


def make_run(folder: Path, settings: Preference, **changes: Any) -> TrainingJob:
    folder.mkdir()
    base = folder / "base"
    base.mkdir()
    model = Transformer(SHAPE)
    initialise(model, 1)
    save_model(model, base)
    for name, count, seed in (("train", 200, 1), ("heldout", 30, 2)):
        write(folder / name, count, model.eval(), seed)
    heldout = {"heldout": Source("preferences", str(folder / "heldout"))}
    fields: dict[str, Any] = {
        "objective": "preferences",
        "preference": settings,
        "data": Source("preferences", str(folder / "train")),
        "validation": heldout,
        "validation_before": heldout,
        "initial": str(base),
        "schedule": Schedule(40, 2, 10),
    }
    return make_job(folder, folder, **fields | changes)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [DPO, SIMPO], ids=["dpo", "simpo"])
def test_what_was_chosen_becomes_likelier(settings: Preference, tmp_path: Path) -> None:
    job = make_run(tmp_path / "run", settings)
    run_to_end(job)
    result = json.loads((Path(job.work) / "result.json").read_text())
    assert result["after"]["heldout_win_rate"] > 0.9 > result["before"]["heldout_win_rate"]
    assert result["after"]["heldout_margin"] > result["before"]["heldout_margin"]
    assert result["after"]["heldout_loss"] < result["before"]["heldout_loss"]
    rows = [json.loads(line) for line in (Path(job.work) / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[0]["bits_per_byte"] is None
    assert [row["step"] for row in rows if "validation_loss" in row] == [25]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [DPO, SIMPO], ids=["dpo", "simpo"])
def test_killed_and_resumed_it_ends_with_the_same_bits(settings: Preference, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", settings)
    run_to_end(whole)
    job = make_run(tmp_path / "killed", settings)
    kill_and_resume(job, 15)
    assert weights(job) == weights(whole)
