"""Searches that are killed, and searches of two processes: nothing is lost, and nothing done twice."""

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import drawn_moments, is_alive, living_processes, llmill_command, wait_until

from storage.runs import runs

pytestmark = pytest.mark.slow

SPACE = """
figure: finetune.answer_bits_per_byte
best: lowest
seed: 3
fields:
  finetune.matrix_rate: {low: 0.003, high: 0.03, log: true}
"""
COUNT = 5


def start(home: Path, space: Path, trials: int = COUNT, *more: str) -> "subprocess.Popen[str]":
    command = [*llmill_command(), "tune", "smoke", "--space", str(space), "--trials", str(trials), "--plain", "--json"]
    command += more
    return subprocess.Popen(
        command,
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def trials_of(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(home.glob("tuning/*/trials/*.json"))]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def is_at_work(home: Path, begun: int) -> bool:
    """Whether one more trial than so many was begun, or one that was begun goes on."""
    return len(trials_of(home)) > begun or bool(living_trainers(home))


def living_trainers(home: Path) -> list[str]:
    return [line for line in living_processes(home).values() if "model.trainer" in line]


def figures(home: Path) -> dict[str, float]:
    return {json.dumps(trial["settings"]): trial["figure"] for trial in trials_of(home)}


def builds_of_finetune(home: Path) -> Counter[str]:
    """How often each fine-tuning came to its end."""
    rows = (row for run in runs(home) for row in run["stages"] if row["stage"] == "finetune")
    return Counter(row["key"] for row in rows if row["outcome"] == "built")


def test_a_search_killed_again_and_again_comes_to_the_trials_of_one_that_was_not(
    smoke_home: Path, space: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(smoke_home, whole, symlinks=True)
    process = start(whole, space)
    assert process.wait(600) == 0, process.communicate()[1]
    moments = drawn_moments()
    for _ in range(4):
        process = start(smoke_home, space)
        begun = len(trials_of(smoke_home))
        wait_until(partial(is_at_work, smoke_home, begun), "a trial", process)
        try:
            process.wait(moments.uniform(0.0, 9.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not living_processes(smoke_home), "its children have ended")
        if len(trials_of(smoke_home)) == COUNT:
            break
    process = start(smoke_home, space)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert figures(smoke_home) == figures(whole), "the same settings, the same figures to the last digit"
    assert set(builds_of_finetune(smoke_home).values()) == {1}, "what was finished is never built again"
    assert json.loads(out)["tune"]["trials"] == {"finished": COUNT}


def test_two_workers_share_one_study(smoke_home: Path, space: Path) -> None:
    workers = [start(smoke_home, space, 6) for _ in range(2)]
    reports = []
    for worker in workers:
        out, err = worker.communicate(timeout=900)
        assert worker.returncode == 0, err
        reports.append(json.loads(out))
    trials = trials_of(smoke_home)
    assert [trial["number"] for trial in trials] == [1, 2, 3, 4, 5, 6]
    assert {trial["state"] for trial in trials} == {"finished"}
    assert len({json.dumps(trial["settings"]) for trial in trials}) == 6
    assert set(builds_of_finetune(smoke_home).values()) == {1}
    names = {run["run"]: run["process"] for run in runs(smoke_home)}
    assert len({names[trial["run"]] for trial in trials}) == 2, "both have worked"
    assert max(report["tune"]["trials"]["finished"] for report in reports) == 6


def test_a_trial_that_another_process_works_on_is_left_to_it(smoke_home: Path, space: Path) -> None:
    long = ("--set", "finetune.steps=100000")
    first = start(smoke_home, space, 1, *long)
    wait_until(lambda: living_trainers(smoke_home), "the first trial trains", first)
    second = start(smoke_home, space, 1, *long)
    _, err = second.communicate(timeout=600)
    assert second.returncode == 2 and "under way in another process" in " ".join(err.split()), err
    assert is_alive(first.pid)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=600)
    (trial,) = trials_of(smoke_home)
    assert first.returncode == 130 and trial["state"] == "running", "it can go on"
    assert {run["status"] for run in runs(smoke_home)[-3:]} == {"interrupted"}
