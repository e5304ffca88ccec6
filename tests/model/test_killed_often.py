"""A training that is killed twenty times ends with the bits of one that nobody has disturbed.

In one process and in two: a kill costs about 4 s and 7, most of it for importing torch.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support import PATIENCE_SECONDS, drawn_moments, is_alive, living_processes, wait_until
from trainer_process import curve, make_job, run_to_end, start, wait_for_step, weights, write_walks

from model.job import TrainingJob
from model.schedule import Schedule

KILLS = 20
STEPS = 300  # which twenty attempts that go on for a moment don't come to the end of
MOST_STEPS = 8  # of an attempt, before it is killed
START_SECONDS = 6.0  # of an attempt: a fifth of all are killed within it
ENDING_SECONDS = 15  # within which all processes of an attempt have ended
TERMINATED = 128 + signal.SIGTERM


def job_of(tokens: Path, folder: Path, processes: int) -> TrainingJob:
    schedule = Schedule(STEPS, 5, 100)
    changes = {"processes": processes, "threads": 1, "rows_per_step": 16, "checkpoint_interval": 5}
    return make_job(tokens, folder, schedule=schedule, **changes)


def steps_done(job: TrainingJob) -> int:
    return len(curve(job)) if Path(job.work, "metrics.jsonl").exists() else 0


def kill_once(job: TrainingJob, moments: random.Random) -> str:
    """Start the training, and kill one of its processes or all a moment later; returns what was done."""
    process = start(job)
    before = steps_done(job)
    if moments.random() < 0.2:
        until = time.monotonic() + moments.uniform(0.0, START_SECONDS)
        while time.monotonic() < until and steps_done(job) < before + MOST_STEPS:  # a fast machine starts sooner
            time.sleep(0.01)
    else:
        wait_for_step(job, before + moments.randrange(1, MOST_STEPS), process)
        time.sleep(moments.uniform(0.0, 0.05))  # in a step, a validation or while it saves
    living = sorted(living_processes(Path(job.work)))
    victim = moments.choice(living or [process.pid])
    number = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    os.kill(process.pid if number == signal.SIGTERM else victim, number)
    killed = time.monotonic()
    status = process.wait(PATIENCE_SECONDS)
    wait_until(lambda: not any(map(is_alive, living)), "none of them is left")
    assert time.monotonic() - killed < ENDING_SECONDS
    by_signals = (-signal.SIGKILL, 128 + signal.SIGKILL, -signal.SIGTERM, TERMINATED)
    assert status in by_signals, Path(job.work, "log").read_text()
    return f"{number.name} to {'the first' if victim == process.pid else 'another'} at step {steps_done(job)}"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_twenty_times_it_ends_with_the_bits_of_an_undisturbed_training(processes: int, tmp_path: Path) -> None:
    tokens = write_walks(tmp_path)
    undisturbed = job_of(tokens, tmp_path / "undisturbed", processes)
    job, moments = job_of(tokens, tmp_path / "killed", processes), drawn_moments()
    for kill in range(KILLS):
        print(f"{kill + 1}:", kill_once(job, moments))
    assert 0 < steps_done(job) < STEPS
    run_to_end(job)
    run_to_end(undisturbed)
    assert weights(job) == weights(undisturbed)
    assert curve(job) == curve(undisturbed)
