"""The trainer as a process, for tests: one tiny model, 60 steps."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from support import PATIENCE_SECONDS, wait_until

from model.job import Source, TrainingJob
from model.optimizer import OptimizerSettings
from model.schedule import Schedule
from model.shape import Shape
from storage.tokens import write_token_meta, write_token_shard

ROOT = Path(__file__).resolve().parents[1]
SHAPE = Shape(64, 2, 32, 2, 1, 16, 48, 16)
STEPS = 60


def write_walks(folder: Path) -> Path:
    """A token set whose documents can be learned: walks through the vocabulary in steps of one."""
    write_token_meta(folder, 64)
    starts = np.random.default_rng(0).integers(0, 60, 400)
    documents = [([1 + (int(start) + i) % 63 for i in range(20)], 40) for start in starts]
    write_token_shard(folder, "train", 0, documents[:350], 64)
    write_token_shard(folder, "heldout", 0, documents[350:], 64)
    return folder


def make_job(tokens: Path, work: Path, **changes: Any) -> TrainingJob:
    work.mkdir(exist_ok=True)
    job = TrainingJob(
        objective="next_token",
        shape=SHAPE,
        optimizer=OptimizerSettings(matrix_rate=0.02, embedding_rate=0.01),
        schedule=Schedule(STEPS, 5, 20),
        data=Source("packed", str(tokens)),
        data_digest="d",
        rows_per_step=8,
        micro_batch_tokens=64,
        seed=1,
        dtype="float32",
        device="cpu",
        threads=2,
        validation={"heldout": Source("packed", str(tokens))},
        validation_interval=25,
        validation_tokens=300,
        work=str(work),
        output=str(work / "model"),
        checkpoint_interval=7,
    )
    return dataclasses.replace(job, **changes)


def start(job: TrainingJob) -> "subprocess.Popen[bytes]":
    path = Path(job.work) / "job.json"
    job.write(path)
    program = "model.trainer" if job.processes == 1 else "model.launcher"
    with (Path(job.work) / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", program, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LLMILL_HOME": job.work},
            stderr=log,
            start_new_session=True,
        )


def wait_for_step(job: TrainingJob, step: int, process: "subprocess.Popen[bytes]") -> None:
    metrics = Path(job.work) / "metrics.jsonl"
    wait_until(
        lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= step,
        f"step {step} of the trainer whose log is {job.work}/log",
        process,
        every=0.002,
    )


def kill_and_resume(job: TrainingJob, *steps: int) -> None:
    """SIGKILL after so many steps, each time the same job again, and at last to its end."""
    for step in steps:
        process = start(job)
        wait_for_step(job, step, process)
        if step > job.checkpoint_interval:  # a thread of its own saves
            wait_until(lambda: [*Path(job.work, "checkpoints").glob("step-*")], "a checkpoint", every=0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run_to_end(job)
    assert (Path(job.work) / "log").read_text().count("resumed at step") == len(steps)


def run_to_end(job: TrainingJob) -> None:
    assert start(job).wait(PATIENCE_SECONDS) == 0, (Path(job.work) / "log").read_text()


def weights(job: TrainingJob) -> bytes:
    return (Path(job.output) / "model.safetensors").read_bytes()


def curve(job: TrainingJob) -> list[dict]:
    rows = [json.loads(line) for line in (Path(job.work) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]
