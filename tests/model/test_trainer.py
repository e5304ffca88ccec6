"""The trainer as a process: killed and resumed it ends with the same bits; it saves on SIGTERM; it dies alone.

One tiny model, 60 steps; each process costs about 3 s to import torch.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import PATIENCE_SECONDS, drawn_moments, is_alive, wait_until
from trainer_process import ROOT, SHAPE, STEPS, curve, make_job, start, wait_for_step, weights, write_walks

from model.batches import IGNORED, Batch, Example, ExampleSet
from model.job import Source, TrainingJob
from model.loss import target_nats
from model.metrics import cut_metrics
from model.parallel import Workers, add_gradients
from model.policy import MOST_BAD_IN_A_ROW
from model.schedule import Schedule
from model.shape import FamilyName
from model.trainer import Trainer, main
from storage.errors import ConfigError, DataError
from tasks.train.trainer_process import compiler_environment

pytestmark = pytest.mark.usefixtures("untouched_process")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_walks(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    job = make_job(tokens, tmp_path_factory.mktemp("undisturbed"))
    process = start(job)
    assert process.wait(PATIENCE_SECONDS) == 0, (Path(job.work) / "log").read_text()
    return job


def test_it_learns_and_shows_what_it_did(undisturbed: TrainingJob) -> None:
    rows = curve(undisturbed)
    result = json.loads((Path(undisturbed.work) / "result.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[0]["loss"] == pytest.approx(np.log(64), rel=0.05)
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert [row["step"] for row in rows if "validation_bits_per_byte" in row] == [25, 50]
    assert (result["steps"], result["tokens"], result["skipped"]) == (STEPS, STEPS * 8 * 16, 0)
    assert result["after"]["heldout"] < rows[24]["validation_bits_per_byte"]


def test_killed_at_random_steps_and_resumed_it_ends_with_the_same_bits(
    undisturbed: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    """SIGKILL twice, once before the first checkpoint, and SIGTERM; what is resumed has no memory but the folder."""
    job = make_job(tokens, tmp_path / "work")
    moments = drawn_moments()
    kills = ((1, 7, signal.SIGKILL), (8, STEPS - 30, signal.SIGKILL), (STEPS - 30, STEPS - 10, signal.SIGTERM))
    for first, last, number in kills:
        step = moments.randrange(first, last)
        process = start(job)
        wait_for_step(job, step, process)
        if step > job.checkpoint_interval:  # a thread of its own saves
            wait_until(lambda: [*Path(job.work, "checkpoints").glob("step-*")], "a checkpoint", every=0.001)
        process.send_signal(number)
        process.wait(PATIENCE_SECONDS)
    final = start(job)
    assert final.wait(PATIENCE_SECONDS) == 0, (Path(job.work) / "log").read_text()
    assert "resumed at step" in (Path(job.work) / "log").read_text()
    assert weights(job) == weights(undisturbed)
    assert curve(job) == curve(undisturbed)


def test_with_the_products_of_other_processors_it_ends_with_the_same_bits_too(
    undisturbed: TrainingJob, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")  # as on a processor without AMX, which would round
    changes = {"optimizer_dtype": "bfloat16", "products": "oneDNN"}
    whole, killed = (make_job(tokens, tmp_path / name, **changes) for name in ("whole", "killed"))
    assert start(whole).wait(PATIENCE_SECONDS) == 0, (Path(whole.work) / "log").read_text()
    process = start(killed)
    wait_for_step(killed, 30, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert start(killed).wait(PATIENCE_SECONDS) == 0, (Path(killed.work) / "log").read_text()
    assert weights(killed) == weights(whole) != weights(undisturbed) and curve(killed) == curve(whole)
    losses = [row["loss"] for row in curve(undisturbed)]
    assert [row["loss"] for row in curve(whole)] == pytest.approx(losses, rel=0.2)  # Muon's products are rounded


def test_on_sigterm_in_a_step_it_saves_within_15_seconds_and_says_so_by_its_status(
    undisturbed: TrainingJob, tokens: Path, tmp_path: Path
) -> None:
    job = make_job(tokens, tmp_path / "work", checkpoint_interval=10_000)
    process = start(job)
    wait_for_step(job, 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 143
    steps = len(curve(job))
    assert [path.name for path in (tmp_path / "work/checkpoints").iterdir()] == [f"step-{steps:08d}"]
    assert main([str(tmp_path / "work/job.json")]) == 0
    assert weights(job) == weights(undisturbed)


def test_it_ends_when_its_parent_is_gone(tokens: Path, tmp_path: Path) -> None:
    """The parent is killed at once and without a chance to report."""
    job = make_job(tokens, tmp_path / "work", schedule=Schedule(10_000_000, 0, 0))
    script = (
        "import dataclasses, os, sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from model.job import TrainingJob; import subprocess\n"
        "path = Path(sys.argv[2]); job = TrainingJob.read(path)\n"
        "dataclasses.replace(job, parent_pid=os.getpid()).write(path)\n"
        "child = subprocess.Popen([sys.executable, '-P', '-m', 'model.trainer', str(path)], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    job.write(tmp_path / "job.json")
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(ROOT), str(tmp_path / "job.json")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for_step(job, 1, parent)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(child), "the trainer ends with its parent")


def test_another_config_does_not_take_up_the_checkpoint(undisturbed: TrainingJob, tokens: Path, tmp_path: Path) -> None:
    job = make_job(tokens, Path(undisturbed.work), seed=2)
    with pytest.raises(DataError, match="another config"):
        Trainer(job).run()
    moved = make_job(tokens, tmp_path / "elsewhere", checkpoint_interval=3)
    assert moved.identity() == undisturbed.identity()


def test_a_step_that_is_not_finite_leaves_the_weights_alone_and_three_in_a_row_end_the_run(
    tokens: Path, tmp_path: Path
) -> None:
    trainer = Trainer(make_job(tokens, tmp_path / "work"))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    gain = trainer.model.model.norm.weight
    with torch.no_grad():
        gain[0] = torch.nan
    row = trainer._advance()
    assert row is not None
    assert row["loss"] is None
    assert trainer.state["skipped"] == 1
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name]) or name == "model.norm.weight"
    with torch.no_grad():
        gain[0] = 1.0
    trainer._advance()
    assert (trainer.state["skipped"], trainer.state["bad_in_a_row"]) == (1, 0)
    with torch.no_grad():
        gain[0] = torch.inf
    for _ in range(MOST_BAD_IN_A_ROW - 1):
        trainer._advance()
    with pytest.raises(DataError, match="matrix_rate"):
        trainer._advance()


@pytest.mark.parametrize(("threads", "micro_batch_tokens"), [(1, 10_000), (2, 10_000), (2, 32), (5, 16)])
def test_gradients_do_not_depend_on_how_a_batch_is_cut(
    tokens: Path, tmp_path: Path, threads: int, micro_batch_tokens: int
) -> None:
    trainer = Trainer(make_job(tokens, tmp_path / "work"))
    batch = trainer.batches.batch(0)
    batch = Batch(batch.inputs, batch.targets.copy())
    batch.targets[1] = IGNORED  # a row of which nothing is scored
    for parameter in trainer.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    logits = trainer.model.logits(trainer.model(inputs))
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    expected = torch.autograd.grad(plain, list(trainer.model.parameters()))
    nats = add_gradients(trainer.model, batch, max(1, batch.losses), micro_batch_tokens, target_nats, Workers(threads))
    assert float(nats) / batch.valid == pytest.approx(float(plain.detach()), rel=1e-5)
    for parameter, gradient in zip(trainer.model.parameters(), expected, strict=True):
        assert parameter.grad is not None and torch.allclose(parameter.grad, gradient, atol=1e-5)


@pytest.mark.parametrize(("family", "packing"), [("qwen3", False), ("qwen3", True), ("gpt2", False)])
def test_examples_may_be_as_long_as_a_context_that_is_no_multiple_of_what_rows_are_filled_up_to(
    family: FamilyName, packing: bool, tmp_path: Path
) -> None:
    shape = dataclasses.replace(SHAPE, context_length=21, family=family, heads=2, key_value_heads=2)
    ExampleSet.write(tmp_path / "examples", [Example(range(1, 11), range(10, 21), 4) for _ in range(4)])
    source = Source("examples", str(tmp_path / "examples"))
    changed = {"objective": "answers", "data": source, "validation": {"heldout": source}, "packing": packing}
    trainer = Trainer(make_job(tmp_path, tmp_path / "work", shape=shape, **changed))
    row = trainer._advance()
    assert row is not None
    assert row["loss"] == pytest.approx(np.log(64), rel=0.2)


def test_a_job_that_cannot_be_carried_out_says_why(tokens: Path, tmp_path: Path) -> None:
    for changes, complaint in (
        ({"objective": "rewards"}, "objective: 'rewards' is not one of next_token, masked_words, answers"),
        ({"processes": 0}, "processes: 0 cannot train"),
        ({"processes": 2}, "processes: 2 train together, and this one was started alone: use model.launcher"),
        ({"objective": "answers"}, "objective answers trains on examples data, these are packed"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            Trainer(make_job(tokens, tmp_path / "work", **changes))


def test_objective_and_processes_decide_the_weights(tokens: Path, tmp_path: Path) -> None:
    job = make_job(tokens, tmp_path / "work")
    job.write(tmp_path / "job.json")
    assert TrainingJob.read(tmp_path / "job.json") == job
    assert dataclasses.replace(job, objective="answers").identity() != job.identity()
    assert dataclasses.replace(job, processes=2).identity() != job.identity()
    assert dataclasses.replace(job, processes_now=2).identity() == job.identity()


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    cut_metrics(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    cut_metrics(path, 0)
    assert path.read_text() == ""


def test_a_user_s_own_modules_in_the_working_folder_are_not_imported(tokens: Path, tmp_path: Path) -> None:
    for name in ("model", "storage", "tasks", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user's module was imported')")
    job = make_job(tokens, tmp_path / "with space", schedule=Schedule(2, 0, 0))
    path = tmp_path / "job.json"
    job.write(path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "model.trainer", str(path)], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_compiled_on_a_cpu_it_is_ended_while_it_compiles_and_killed_and_ends_with_the_same_bits(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads would compile at once if the first step let them."""
    changes = {"dtype": "bfloat16", "compiled": True, "threads": 2, "dropout": 0.1}
    whole, hurt = (make_job(tokens, tmp_path / name, **changes) for name in ("whole", "hurt"))
    for variable, value in compiler_environment(hurt).items():
        monkeypatch.setenv(variable, value)
    code = Path(hurt.work) / "compiled"
    for later in (0.0, 1.0, 2.0):  # the compiler catches errors in some places
        shutil.rmtree(code, ignore_errors=True)  # as the task does
        process = start(hurt)
        wait_until(lambda: any(code.rglob("*.cpp")), "the compiler to write code", process)
        time.sleep(later)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(PATIENCE_SECONDS) == 143, (Path(hurt.work) / "log").read_text()
        assert time.monotonic() - asked < 15
    assert not curve(hurt) and (Path(hurt.work) / "checkpoints/step-00000000").is_dir()
    shutil.rmtree(code)
    process = start(hurt)
    wait_for_step(hurt, 30, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for job in (hurt, whole):
        assert start(job).wait(PATIENCE_SECONDS) == 0, (Path(job.work) / "log").read_text()
    assert weights(hurt) == weights(whole) and curve(hurt) == curve(whole)
    assert [row["step"] for row in curve(whole)] == list(range(1, STEPS + 1))
