"""What a training does where it goes wrong: it leaves steps out, goes back, stops, takes smaller parts, ends early."""

import json
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import PATIENCE_SECONDS, wait_until
from trainer_process import ROOT, STEPS, curve, kill_and_resume, make_job, run_to_end, write_walks

from model import policy
from model.batches import IGNORED, Batch
from model.checkpoint import Checkpoint, Saver
from model.job import TrainingJob
from model.optimizer import OptimizerSettings
from model.parallel import add_gradients
from model.schedule import Schedule
from model.trainer import Trainer
from storage.errors import DataError
from storage.tokens import write_token_meta, write_token_shard

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


def ended_where(job: TrainingJob, patch: str) -> int:
    """The status of a trainer of other code that gets SIGTERM where that code calls `reached`; within 15 s."""
    program, reached = Path(job.work) / "patched.py", Path(job.work) / "reached"
    program.write_text(
        "import sys, time, model.checkpoint, model.trainer, model.validation\n"
        "def reached(seconds):\n"
        "    open(sys.argv[2], 'w').close(); time.sleep(seconds)\n"
        f"{patch}\n"
        "sys.exit(model.trainer.main(sys.argv[1:2]))\n"
    )
    job.write(Path(job.work) / "job.json")
    command = [sys.executable, str(program), f"{job.work}/job.json", str(reached)]
    process = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)})
    wait_until(reached.exists, "what is to be interrupted", process)
    process.send_signal(signal.SIGTERM)
    return process.wait(15)


def test_sigterm_in_a_validation_ends_at_once_and_nothing_of_it_is_lost(tokens: Path, tmp_path: Path) -> None:
    undisturbed, job = (make_job(tokens, tmp_path / name) for name in ("undisturbed", "work"))
    run_to_end(undisturbed)
    slow = "model.validation.DocumentValidation.figures = lambda *_: reached(600)"
    assert ended_where(job, slow) == 143
    assert (tmp_path / "work/checkpoints/step-00000025").is_dir()
    run_to_end(job)
    assert curve(job) == curve(undisturbed)


def test_sigterm_in_a_saving_waits_for_it_and_saves_where_training_is(tokens: Path, tmp_path: Path) -> None:
    undisturbed, job = (make_job(tokens, tmp_path / name) for name in ("undisturbed", "work"))
    run_to_end(undisturbed)
    slow = (
        "write = model.checkpoint._write_piece\n"
        "model.checkpoint._write_piece = lambda *given: (reached(3), write(*given))[1]"
    )
    assert ended_where(job, slow) == 143
    saved = sorted(path.name for path in (tmp_path / "work/checkpoints").glob("step-*"))
    assert saved[0] == "step-00000007" and saved[-1] == f"step-{len(curve(job)):08d}"
    assert not [*(tmp_path / "work/checkpoints").glob(".step-*")]
    run_to_end(job)
    assert curve(job) == curve(undisturbed)


def test_a_loss_that_is_no_number_is_left_out_and_three_in_a_row_go_back(tokens: Path, tmp_path: Path) -> None:
    job = make_job(tokens, tmp_path / "work", threads=1, micro_batch_tokens=10_000)
    trainer = Trainer(job)
    own, lost = trainer.loss, []

    def loss(model: Any, batch: Any) -> Any:
        bad = (trainer.step == 10 or 20 <= trainer.step < 23) and trainer.step not in lost
        lost.append(trainer.step) if bad else None
        return own(model, batch) * (math.nan if bad else 1.0)

    trainer.loss = loss
    assert trainer.run() == 0
    first, second = (event["what"] for event in events(job))
    assert re.fullmatch(r"loss nan .*not both finite: update left out", first)
    assert re.fullmatch(r"step 23: loss nan .*not both finite: back to step 14, at 0.5 of the rates", second)
    rows = curve(job)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows if row["loss"] is None] == [11]


def test_a_run_that_goes_back_further_still_says_what_was_before(tokens: Path, tmp_path: Path) -> None:
    """In smaller parts from step 19 on, from step 23 back to 14, and from 18, which comes from there, to 7."""
    job = make_job(tokens, tmp_path / "work", threads=1, micro_batch_tokens=10_000)
    trainer = Trainer(job)
    own, bad, last = trainer.loss, [20, 21, 22, 15, 16, 17], [-1]

    def loss(model: Any, batch: Batch) -> Any:
        if trainer.step == 18 and len(batch.inputs) > 4:
            raise torch.OutOfMemoryError("no room")
        if last[0] not in (-1, trainer.step):
            bad.pop(0)
            last[0] = -1
        if bad and trainer.step == bad[0]:
            last[0] = trainer.step
            return own(model, batch) * math.nan
        return own(model, batch)

    trainer.loss = loss
    assert trainer.run() == 0
    said = [(event["step"], event["what"].partition(", at")[0].rpartition(": ")[2]) for event in events(job)]
    assert said == [(19, "64 tokens at once from here on"), (15, "back to step 14"), (8, "back to step 7")]
    assert trainer.state["rate"] == 0.25 and trainer.state["micro_batch_tokens"] == 64


def test_a_batch_of_which_nothing_is_scored_is_left_out_and_said(tokens: Path, tmp_path: Path) -> None:
    job = make_job(tokens, tmp_path / "work", threads=1)
    trainer = Trainer(job)
    give = trainer.batches.batch

    def batch(step: int) -> Batch:
        found = give(step)
        return replace(found, targets=np.full_like(found.targets, IGNORED)) if step == 10 else found

    trainer.batches.batch = batch  # type: ignore[method-assign]
    before: list[torch.Tensor] = []
    advance = trainer._advance

    def watched() -> dict[str, Any] | None:
        before.append(trainer.model.head.detach().clone())
        return advance()

    trainer._advance = watched  # type: ignore[method-assign]
    assert trainer.run() == 0
    (event,) = events(job)
    assert event == {"step": 11, "what": "no token of the batch is scored: update left out"}
    assert torch.equal(before[10], before[11]) and not torch.equal(before[11], before[12])
    assert [row["loss"] is None for row in curve(job)] == [step == 11 for step in range(1, STEPS + 1)]


def test_a_text_of_fewer_rows_than_a_step_takes_is_read_again(tmp_path: Path) -> None:
    write_token_meta(tmp_path, 64)
    for split in ("train", "heldout"):
        write_token_shard(tmp_path, split, 0, [([1 + n % 63 for n in range(40)], 80)], 64)
    job = make_job(tmp_path, tmp_path / "work", threads=1, schedule=Schedule(9, 2, 3))
    run_to_end(job)
    assert [row["tokens"] for row in curve(job)] == [8 * 16 * step for step in range(1, 10)]
    assert all(row["loss"] < 6 for row in curve(job))


def test_smaller_parts_are_written_down_and_taken_again_on_resume(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for 40 tokens at once at first, and for all after the run was killed."""
    job = make_job(tokens, tmp_path / "work", threads=1)
    parts: list[int] = []

    def short(model: Any, batch: Batch, losses: int, tokens_at_once: int, *rest: Any) -> Any:
        parts.append(tokens_at_once)
        if tokens_at_once > 40:
            raise torch.OutOfMemoryError("no room")
        return add_gradients(model, batch, losses, tokens_at_once, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("model.trainer.add_gradients", short)
        killed = Trainer(job)
        killed._resume()
        for _ in range(10):
            killed._timed_step()
        killed._save()
        killed.saver.wait()
    assert parts[:2] == [64, 32] and set(parts[1:]) == {32}
    resumed = Trainer(job)
    assert resumed.run() == 0
    assert resumed.state["micro_batch_tokens"] == 32
    (event,) = events(job)
    assert event == {"step": 1, "what": "out of memory: 32 tokens at once from here on"}


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
