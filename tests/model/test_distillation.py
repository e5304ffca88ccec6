"""Soft targets: the chunked loss has the gradient of the formula; a teacher that cannot be one is refused; a training
with a teacher, another model or its own earlier self, ends with the same bits when it is killed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trainer_process import SHAPE, curve, kill_and_resume, make_job, run_to_end, weights, write_walks

from model import distillation
from model.batches import IGNORED, Batch
from model.distillation import distilled_nats
from model.job import SoftTargets, TrainingJob
from model.lora import LowRank
from model.schedule import Schedule
from model.shape import Shape
from model.trainer import Trainer
from model.transformer import Transformer, initialise, save_model
from storage.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("untouched_process")

SMALL = dataclasses.replace(SHAPE, vocabulary_size=97)
WIDER = dataclasses.replace(SMALL, width=48, layers=1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("tokens"))


def model_of(shape: Shape, seed: int) -> Transformer:
    """Random weights, none of them zero."""
    model = Transformer(shape)
    initialise(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


def write_teacher(folder: Path, shape: Shape = SHAPE, **changes: Any) -> Path:
    folder.mkdir()
    save_model(model_of(dataclasses.replace(shape, **changes), 5), folder)
    return folder


def some_batch(masked: bool) -> Batch:
    random = np.random.default_rng(0)
    targets = random.integers(0, 97, (4, 12))
    if masked:
        targets[random.random((4, 12)) < 0.4] = IGNORED
    return Batch(random.integers(0, 97, (4, 12)), targets)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("settings", [SoftTargets(0.5, 2.0), SoftTargets(0.9, 1.0), SoftTargets(1.0, 0.7)])
def test_the_gradient_is_that_of_the_formula_and_the_value_that_of_the_text(
    monkeypatch: pytest.MonkeyPatch, chunk: int, masked: bool, settings: SoftTargets
) -> None:
    monkeypatch.setattr(distillation, "CHUNK_TOKENS", chunk)
    student, teacher, batch = model_of(SMALL, 1), model_of(WIDER, 2), some_batch(masked)
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    valid = targets != IGNORED
    scores, theirs = student.logits(student(inputs))[valid], teacher.logits(teacher(inputs))[valid].detach()
    hard = F.cross_entropy(scores, targets[valid], reduction="sum")
    heat = settings.temperature
    wanted = torch.softmax(theirs / heat, dim=-1)
    divergence = (wanted * (wanted.log() - torch.log_softmax(scores / heat, dim=-1))).sum()
    plain = (1 - settings.weight) * hard + settings.weight * heat**2 * divergence
    expected = torch.autograd.grad(plain / 7, list(student.parameters()))

    ours = distilled_nats(settings, teacher, student, batch)
    actual = torch.autograd.grad(ours / 7, list(student.parameters()))
    assert float(ours.detach()) == pytest.approx(float(hard.detach()), rel=1e-5)
    for mine, theirs_ in zip(actual, expected, strict=True):
        assert torch.allclose(mine, theirs_, atol=2e-5 * float(theirs_.abs().max()) + 1e-6)


def test_rows_that_a_teacher_keeps_in_reserve_teach_nothing() -> None:
    student, teacher, batch = model_of(SMALL, 1), model_of(WIDER, 2), some_batch(masked=True)
    padded = Transformer(dataclasses.replace(WIDER, vocabulary_size=104))
    weights_ = teacher.state_dict()
    embeddings = weights_["model.embed_tokens.weight"]
    weights_["model.embed_tokens.weight"] = torch.cat([embeddings, torch.ones(7, embeddings.shape[1])])
    padded.load_state_dict(weights_)
    gradients = [
        torch.autograd.grad(distilled_nats(SoftTargets(0.5, 2.0), one, student, batch), student.head)[0]
        for one in (teacher, padded)
    ]
    assert torch.equal(*gradients)


def test_a_student_that_is_its_teacher_learns_from_the_text_alone() -> None:
    """The soft term has its minimum there: what is left is the gradient of the text, by its share."""
    student, batch = model_of(SMALL, 1), some_batch(masked=False)
    whole = torch.autograd.grad(distilled_nats(SoftTargets(1.0, 3.0), student, student, batch), student.head)[0]
    assert float(whole.abs().max()) < 1e-4


def test_scores_of_a_teacher_that_are_not_finite_are_an_error() -> None:
    student, teacher = model_of(SMALL, 1), model_of(WIDER, 2)
    with torch.no_grad():
        teacher.model.norm.weight[0] = torch.inf
    with pytest.raises(DataError, match="teacher's scores are not finite"):
        distilled_nats(SoftTargets(0.5, 2.0), teacher, student, some_batch(masked=True))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocabulary_size": 63}, "a vocabulary of 63 tokens, and the model that learns from it a vocabulary of 64"),
        ({"context_length": 8}, "it sees 8 tokens at once, and the model that learns from it 16"),
        ({"classes": ("a", "b")}, "teacher: it has classes"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    tokens: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    teacher = write_teacher(tmp_path / "teacher", **changes)
    with pytest.raises(ConfigError, match=says):
        Trainer(make_job(tokens, tmp_path / "work", soft_targets=SoftTargets(0.5, 2.0), teacher=str(teacher)))


def test_a_teacher_that_is_missing_is_an_error(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        Trainer(
            make_job(tokens, tmp_path / "work", soft_targets=SoftTargets(0.5, 2.0), teacher=str(tmp_path / "nowhere"))
        )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"soft_targets": SoftTargets(0.5, 2.0)}, "give the folder of a teacher, or earlier_self"),
        ({"soft_targets": SoftTargets(0.5, 2.0, 0.5), "teacher": "x"}, "give the folder of a teacher, or earlier_self"),
        ({"soft_targets": SoftTargets(0.5, 2.0, 0.5), "objective": "classes"}, "objective classes has none"),
        ({"soft_targets": SoftTargets(0.5, 2.0, 0.5), "schedule": Schedule(1, 0, 0)}, "no earlier self"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tokens: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make_job(tokens, tmp_path / "work", **changes)


def test_a_job_with_a_teacher_is_read_as_it_was_written(tokens: Path, tmp_path: Path) -> None:
    job = make_job(tokens, tmp_path / "work", soft_targets=SoftTargets(0.5, 2.0), teacher="somewhere")
    job.write(tmp_path / "job.json")
    assert TrainingJob.read(tmp_path / "job.json") == job
    assert dataclasses.replace(job, teacher="elsewhere").identity() == job.identity()
    assert dataclasses.replace(job, soft_targets=SoftTargets(0.4, 2.0)).identity() != job.identity()


def test_until_its_snapshot_a_training_is_as_without_and_then_it_is_not(tokens: Path, tmp_path: Path) -> None:
    plain = make_job(tokens, tmp_path / "plain", schedule=Schedule(12, 2, 4))
    taught = make_job(tokens, tmp_path / "taught", schedule=Schedule(12, 2, 4), soft_targets=SoftTargets(0.9, 2.0, 0.5))
    for job in (plain, taught):
        assert Trainer(job).run() == 0
    losses = [[row["loss"] for row in curve(job)] for job in (plain, taught)]
    assert losses[0][:7] == losses[1][:7], "the seventh step is the first whose update the snapshot changes"
    assert losses[0][7] != losses[1][7]


def from_itself(tokens: Path, tmp_path: Path) -> dict[str, Any]:
    return {"soft_targets": SoftTargets(0.5, 2.0, 0.4)}


def from_another(tokens: Path, tmp_path: Path) -> dict[str, Any]:
    return {"soft_targets": SoftTargets(0.5, 2.0), "teacher": str(write_teacher(tmp_path / "teacher"))}


def adapter_from_itself(tokens: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "soft_targets": SoftTargets(0.5, 2.0, 0.4),
        "initial": str(write_teacher(tmp_path / "initial")),
        "adapter": LowRank(2, 4.0, ()),
        "adapter_output": str(tmp_path / "adapter"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("taught", [from_itself, from_another, adapter_from_itself])
@pytest.mark.parametrize("step", [10, 26, 45])  # before the snapshot at step 24; before and behind its first checkpoint
def test_killed_and_resumed_it_ends_with_the_same_bits(taught: Any, step: int, tokens: Path, tmp_path: Path) -> None:
    changes = taught(tokens, tmp_path)
    whole, killed = (make_job(tokens, tmp_path / name, **changes) for name in ("whole", "killed"))
    run_to_end(whole)
    kill_and_resume(killed, step)
    assert weights(killed) == weights(whole)
    assert curve(killed) == curve(whole)
