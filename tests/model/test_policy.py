"""What a training does where it goes wrong: it leaves steps out, goes back, stops, takes smaller parts, ends early."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import PATIENCE_SECONDS, wait_until
from trainer_process import ROOT, STEPS, curve, kill_and_resume, make_job, run_to_end, write_walks

from model import policy
from model.checkpoint import Checkpoint, Saver
from model.job import TrainingJob
from model.optimizer import OptimizerSettings
from model.schedule import Schedule
from model.trainer import Trainer
from storage.errors import DataError

pytestmark = pytest.mark.usefixtures("untouched_process")
TOO_HIGH = OptimizerSettings(1.0, 1.0)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("tokens"))


def diverging(tokens: Path, work: Path, **changes: Any) -> TrainingJob:
    """A job whose rates are too high: the loss rises from about step 25 on."""
    settings = {"optimizer": TOO_HIGH, "schedule": Schedule(STEPS, 30, 20), "spike_factor": 2.0, "threads": 1}
    return make_job(tokens, work, **{**settings, **changes})


def events(job: TrainingJob) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(job.work) / "result.json").read_text())["events"]
    return found


def test_spikes_in_a_row_take_a_run_back_to_a_checkpoint_at_half_the_rates(tokens: Path, tmp_path: Path) -> None:
    job = diverging(tokens, tmp_path / "work")
    run_to_end(job)
    event, *_ = events(job)
    rows = curve(job)
    said = re.fullmatch(r"step (\d+): loss .+ is a spike.*: back to step (\d+), at 0.5 of the rates", event["what"])
    assert said is not None, event
    gone, back = map(int, said.groups())  # which steps they are rounding decides, which is another on each kind of CPU
    assert back % job.checkpoint_interval == 0 and back + policy.MOST_BAD_IN_A_ROW <= gone
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert event["step"] == back + 1 == next(row["step"] for row in rows if "event" in row)
    assert rows[back]["learning_rate"] == pytest.approx(0.5 * job.schedule.factor(back))
    assert rows[-1]["loss"] < 1.5


@pytest.mark.slow
def test_a_run_that_went_back_and_is_killed_ends_with_the_same_bits(tokens: Path, tmp_path: Path) -> None:
    whole, killed = (diverging(tokens, tmp_path / name) for name in ("whole", "killed"))
    run_to_end(whole)
    kill_and_resume(killed, 33)
    assert curve(killed) == curve(whole)
    assert events(killed) == events(whole)
    assert (tmp_path / "killed/model/model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()


def test_a_run_that_goes_on_diverging_stops_and_says_what_the_batch_held(tokens: Path, tmp_path: Path) -> None:
    job = diverging(tokens, tmp_path / "work", spike_factor=0.5)
    with pytest.raises(DataError, match=r"went back 2 times.*documents train-00000:\d+, .*tokenize.*matrix_rate"):
        Trainer(job).run()


def test_a_spike_is_told_from_a_loss_that_varies() -> None:
    state = policy.first_state()
    losses = [4.0, 3.5, 3.9, 3.0, 3.2, 2.8, 3.1, 2.9]
    assert [policy.fault_of(loss, 1.0, state, 2.0) for loss in losses] == [None] * 8
    assert policy.fault_of(6.0, 1.0, state, 2.0) is None
    assert "spike" in str(policy.fault_of(7.0, 1.0, state, 2.0))
    assert policy.fault_of(7.0, 1.0, state, None) is None
    assert "finite" in str(policy.fault_of(float("nan"), 1.0, state, None))


def test_training_ends_with_the_best_weights_where_going_on_makes_them_worse(tokens: Path, tmp_path: Path) -> None:
    job = make_job(
        tokens,
        tmp_path / "work",
        schedule=Schedule(400, 5, 0),
        optimizer=OptimizerSettings(0.05, 0.05),
        validation_interval=10,
        patience=3,
    )
    run_to_end(job)
    rows = curve(job)
    validated = {row["step"]: row["validation_bits_per_byte"] for row in rows if "validation_bits_per_byte" in row}
    best = min(validated, key=lambda step: validated[step])
    result = json.loads((tmp_path / "work/result.json").read_text())
    assert len(rows) == best + 30 < 400
    assert result["after"]["heldout"] == pytest.approx(validated[best])
    assert f"step {best} are taken" in result["events"][-1]["what"]


@pytest.mark.slow
def test_a_run_that_ends_early_and_is_killed_ends_with_the_same_bits(tokens: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"schedule": Schedule(400, 5, 0), "optimizer": OptimizerSettings(0.05, 0.05)}
    whole, killed = (
        make_job(tokens, tmp_path / name, validation_interval=10, patience=2, **settings)
        for name in ("whole", "killed")
    )
    run_to_end(whole)
    kill_and_resume(killed, len(curve(whole)) - 5)
    assert curve(killed) == curve(whole)
    assert (tmp_path / "killed/model/model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()


def test_sigterm_in_a_validation_ends_at_once_and_nothing_of_it_is_lost(tokens: Path, tmp_path: Path) -> None:
    """A validation over the same documents thousands of times: it takes minutes."""
    undisturbed = make_job(tokens, tmp_path / "undisturbed")
    run_to_end(undisturbed)
    job = make_job(tokens, tmp_path / "work")
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time, model.validation as v, model.trainer as t\n"
        "figures = v.DocumentValidation.figures\n"
        "def wait(self, model, workers):\n"
        "    open(sys.argv[2], 'w').close(); time.sleep(600); return figures(self, model, workers)\n"
        "v.DocumentValidation.figures = wait\n"
        "sys.exit(t.main(sys.argv[1:2]))\n"
    )
    job.write(tmp_path / "work/job.json")
    reached = tmp_path / "reached"
    process = subprocess.Popen(
        [sys.executable, str(slow), str(tmp_path / "work/job.json"), str(reached)], env={"PYTHONPATH": str(ROOT)}
    )
    wait_until(reached.exists, "the validation", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 143
    assert (tmp_path / "work/checkpoints/step-00000025").is_dir()
    run_to_end(job)
    assert curve(job) == curve(undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_where_memory_is_short_a_step_is_computed_in_smaller_parts(tmp_path: Path) -> None:
    """What the limit leaves holds an eighth of the batch's activations, not all."""
    tokens = write_walks(tmp_path)
    size = {"rows_per_step": 4096, "micro_batch_tokens": 65_536, "schedule": Schedule(2, 0, 0), "threads": 1}
    roomy, tight = (make_job(tokens, tmp_path / name, **size) for name in ("roomy", "tight"))
    run_to_end(roomy)
    path = tmp_path / "tight/job.json"
    tight.write(path)
    limited = (
        "import resource, sys, model.trainer as t, torch\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {120 << 20}, -1))\n"
        "sys.exit(t.main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(path)],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "out of memory: 32,768 tokens at once" in events(tight)[0]["what"]
    assert curve(tight)[-1]["loss"] == pytest.approx(curve(roomy)[-1]["loss"], rel=1e-5)


def test_a_checkpoint_holds_what_was_there_when_its_saving_began(tmp_path: Path) -> None:
    saver, weights, state = Saver(tmp_path, "run", kept=3), torch.zeros(1000, 1000), {"tokens": 1}
    for step in range(1, 5):
        weights.fill_(step)
        saver.save(Checkpoint(step, {"weights": weights}, state))
        weights.fill_(-1)
    saver.wait()
    newest = saver.newest()
    assert newest is not None
    assert (newest.step, float(newest.tensors["weights"].min())) == (4, 4.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in (2, 3, 4)]


def test_a_saving_that_fails_is_an_error_of_the_training(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "file", "run", kept=2)
    (tmp_path / "file").write_text("in the way")
    saver.save(Checkpoint(1, {}, {}))
    with pytest.raises(OSError):
        saver.wait()
