"""Classifiers: the same in transformers, learned at the last token, killed and resumed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_families import ENCODERS, SHAPES, scattered
from trainer_process import SHAPE, kill_and_resume, make_job, run_to_end, weights

from model.batches import IGNORED, ExampleSet
from model.classes import ClassValidation, as_classifier, class_nats, class_scores, labelled
from model.job import Source, TrainingJob
from model.parallel import Workers
from model.schedule import Schedule
from model.shape import FamilyName
from model.transformer import Transformer, initialise, load_model, save_model
from storage.errors import DataError

pytestmark = pytest.mark.usefixtures("untouched_process")
CLASSES = ("ham", "spam", "ünsure")
TEXTS = [[7, 8, 9], list(range(20, 60)), [5], [9, 8, 7, 6]]


KINDS = ["qwen3", "llama", "llama, its own head", "gpt2", *ENCODERS]


@pytest.mark.parametrize("name", KINDS)
def test_transformers_gives_the_same_classes(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = scattered(as_classifier(scattered(Transformer((SHAPES | ENCODERS)[name])), CLASSES))
    save_model(model, tmp_path)
    judge = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert judge.config.id2label == dict(enumerate(CLASSES))
    found = class_scores(model, TEXTS)
    with torch.no_grad():
        wanted = [torch.log_softmax(judge(torch.tensor([ids])).logits[0], -1).numpy() for ids in TEXTS]
    assert np.allclose(found, np.stack(wanted), atol=1e-4)
    again = load_model(tmp_path)
    assert again.shape == model.shape and np.array_equal(class_scores(again, TEXTS), found)
    assert np.allclose(np.exp(found).sum(axis=1), 1)


@pytest.mark.parametrize("name", ["qwen3", "eurobert"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_text_does_not_depend_on_its_neighbours(workers: int, name: str) -> None:
    model = scattered(as_classifier(scattered(Transformer((SHAPES | ENCODERS)[name])), CLASSES))
    alone = np.concatenate([class_scores(model, [ids]) for ids in TEXTS])
    for times in (1, 50):  # in one batch of uneven rows, and in several
        together = class_scores(model, TEXTS * times, Workers(workers))
        assert np.allclose(together, np.tile(alone, (times, 1)), atol=1e-5)


@pytest.mark.parametrize("name", ["llama, its own head", "eurobert, its own head"])
def test_a_new_head_prefers_no_class_and_keeps_the_weights(name: str) -> None:
    model = scattered(Transformer((SHAPES | ENCODERS)[name]))
    made = as_classifier(model, CLASSES)
    assert np.allclose(class_scores(made.eval(), TEXTS), np.log(1 / 3))
    kept = made.state_dict()
    assert all(
        torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items() if name != "lm_head.weight"
    )
    assert made.shape.parameters == sum(parameter.numel() for parameter in made.parameters())


def test_the_one_target_stands_at_the_last_token(tmp_path: Path) -> None:
    ExampleSet.write(tmp_path, [labelled([4, 5, 6], 2), labelled([7], 0)])
    batch = ExampleSet(tmp_path).batch(np.array([0, 1]))
    assert batch.targets.tolist() == [[IGNORED, IGNORED, 2] + [IGNORED] * 5, [0] + [IGNORED] * 7]
    assert batch.inputs[0, :3].tolist() == [4, 5, 6] and batch.valid == 2


def test_what_fills_up_a_row_of_an_encoder_changes_no_loss(tmp_path: Path) -> None:
    """The loss of texts in one batch is the sum of those alone, and what class scores say."""
    model = scattered(as_classifier(scattered(Transformer(ENCODERS["eurobert"])), CLASSES))
    numbers = [2, 0, 1, 1]
    ExampleSet.write(tmp_path, [labelled(ids, number) for ids, number in zip(TEXTS, numbers, strict=True)])
    together = class_nats(model, ExampleSet(tmp_path).batch(np.arange(4)))
    alone = -sum(class_scores(model, [ids])[0, number] for ids, number in zip(TEXTS, numbers, strict=True))
    assert float(together.detach()) == pytest.approx(alone, rel=1e-5)


# A whole run ----------------------------------------------------------------------------------------------------


def write_texts(folder: Path, count: int, seed: int) -> Source:
    """Texts of random words; the class is whether word 7 is among them."""
    random = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        ids = random.integers(8, 64, int(random.integers(3, 12)))
        number = int(random.integers(2))
        ids[int(random.integers(len(ids)))] = 7 if number else 9
        examples.append(labelled([0, *ids.tolist()], number))
    ExampleSet.write(folder, examples)
    return Source("classes", str(folder))


def make_run(folder: Path, family: FamilyName = "qwen3", **changes: Any) -> TrainingJob:
    folder.mkdir()
    (folder / "base").mkdir()
    model = Transformer(dataclasses.replace(SHAPE, family=family))
    initialise(model, 1)
    save_model(model, folder / "base")
    heldout = {"heldout": write_texts(folder / "heldout", 100, 2)}
    fields: dict[str, Any] = {
        "objective": "classes",
        "shape": as_classifier(model, ("without", "with")).shape,
        "data": write_texts(folder / "train", 600, 1),
        "rows_per_step": 32,
        "validation": heldout,
        "validation_before": heldout,
        "initial": str(folder / "base"),
        "schedule": Schedule(100, 5, 40),
    }
    return make_job(folder, folder, **fields | changes)


FAMILIES: list[FamilyName] = ["qwen3", "eurobert"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_classes_are_learned(family: FamilyName, tmp_path: Path) -> None:
    job = make_run(tmp_path / "run", family)
    run_to_end(job)
    result = json.loads((Path(job.work) / "result.json").read_text())
    assert result["before"]["heldout_loss"] == pytest.approx(np.log(2), rel=1e-4)
    assert result["after"]["heldout_accuracy"] > 0.9 and result["after"]["heldout_loss"] < 0.3
    assert load_model(Path(job.output)).shape.classes == ("without", "with")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_killed_and_resumed_it_ends_with_the_same_bits(family: FamilyName, tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", family, schedule=Schedule(40, 2, 10))
    run_to_end(whole)
    job = make_run(tmp_path / "killed", family, schedule=Schedule(40, 2, 10))
    kill_and_resume(job, 15)
    assert weights(job) == weights(whole)


def test_nothing_held_out_is_an_error(tmp_path: Path) -> None:
    ExampleSet.write(tmp_path, [])
    with pytest.raises(DataError, match="no held-out text with a label"):
        ClassValidation(ExampleSet(tmp_path))
