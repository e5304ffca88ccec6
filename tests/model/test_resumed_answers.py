"""Fine-tuning as a process, of each kind: killed and resumed it ends with the same bits."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainer_process import SHAPE, curve, kill_and_resume, make_job, run_to_end, weights

from model.batches import Example, ExampleSet
from model.job import SoftTargets, Source, TrainingJob
from model.shape import Shape
from model.transformer import Transformer, initialise, save_model

pytestmark = pytest.mark.usefixtures("untouched_process")
EXAMPLES, ROWS = 200, 8  # 25 steps an epoch: a run of 60 steps is in its third


def write_model(folder: Path, shape: Shape, seed: int) -> str:
    folder.mkdir()
    model = Transformer(shape)
    initialise(model, seed)
    save_model(model, folder)
    return str(folder)


def write_pairs(folder: Path, count: int, seed: int) -> Source:
    """Prompts of random tokens in many lengths; the answer is each token's neighbour."""
    random = np.random.default_rng(seed)
    prompts = [random.integers(0, 63, int(random.integers(2, 8))).tolist() for _ in range(count)]
    ExampleSet.write(folder, [Example(ids, [one + 1 for one in ids], len(ids)) for ids in prompts])
    return Source("examples", str(folder))


def make_run(folder: Path, **changes: Any) -> TrainingJob:
    """A fine-tuning over pairs; with a teacher its weights are another model's."""
    folder.mkdir()
    if "soft_targets" in changes:
        changes["teacher"] = write_model(folder / "teacher", dataclasses.replace(SHAPE, width=48, layers=1), 2)
    fields: dict[str, Any] = {
        "objective": "answers",
        "data": write_pairs(folder / "train", EXAMPLES, 1),
        "rows_per_step": ROWS,
        "validation": {"heldout": write_pairs(folder / "heldout", 30, 2)},
        "initial": write_model(folder / "base", SHAPE, 1),
    }
    return make_job(folder, folder, **fields | changes)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "curriculum": {"shortest_first": True},
    "packed with dropout": {"packing": True, "dropout": 0.1},
    "teacher": {"soft_targets": SoftTargets(0.5, 2.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_it_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Killed twice: in the first epoch, whose order may be another, and in the second."""
    whole, killed = (make_run(tmp_path / name, **KINDS[kind]) for name in ("whole", "killed"))
    run_to_end(whole)
    kill_and_resume(killed, 15, 38)
    assert weights(killed) == weights(whole)
    assert curve(killed) == curve(whole)
