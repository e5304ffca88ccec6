"""A pretraining in two processes, as a run carries it out: killed with it, resumed, found where one of them hangs."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import (
    PATIENCE_SECONDS,
    digests,
    drawn_moments,
    living_processes,
    llmill,
    llmill_command,
    report_of,
    wait_until,
)

STEPS = 150
SETTINGS = {
    "pretrain.processes": 2,
    "pretrain.threads": 1,
    "pretrain.steps": STEPS,
    "pretrain.tokens": "null",
    "execution.checkpoint_interval": 10,
}
ARGUMENTS = ["run", "smoke", "--plain", "--json", "--to", "pretrain"]
ARGUMENTS += [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def undisturbed(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    return report_of(llmill(*ARGUMENTS, home=home))


def begin(home: Path, *more: str) -> "subprocess.Popen[str]":
    home.with_name("temporary").mkdir(exist_ok=True)
    return subprocess.Popen(
        [*llmill_command(), *ARGUMENTS, *more],
        env={**os.environ, "LLMILL_HOME": str(home), "TMPDIR": str(home.with_name("temporary"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(home: Path) -> list[int]:
    return [process for process, command in living_processes(home).items() if "model.trainer" in command]


def step(home: Path) -> int:
    """How many steps of the pretraining are done."""
    return max((path.read_bytes().count(b"\n") for path in home.glob("work/pretrain-*/keep/metrics.jsonl")), default=0)


@pytest.mark.slow
def test_killed_at_any_moment_two_processes_end_where_an_undisturbed_pair_ends(
    smoke: tuple[Path, dict[str, Any]], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Of the run itself, the launcher or a rank, each time another: all of them end, and the next run goes on."""
    home, moments = tmp_path / "home", drawn_moments()
    shutil.copytree(smoke[0], home, symlinks=True)
    for victim in ("run", "launcher", "rank", "run", "rank", "launcher"):
        after = step(home) + moments.randrange(1, 20)
        process = begin(home)
        wait_until(lambda: step(home) >= after, "steps", process)  # noqa: B023
        launchers = [one for one, command in living_processes(home).items() if "model.launcher" in command]
        os.kill({"run": process.pid, "launcher": launchers[0], "rank": ranks(home)[-1]}[victim], signal.SIGKILL)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode != 0
        wait_until(lambda: not living_processes(home), "nothing is left of it")
    assert digests(report_of(llmill(*ARGUMENTS, home=home))) == digests(undisturbed)


@pytest.mark.slow
def test_a_process_that_hangs_is_found_by_its_silence_and_training_goes_on(
    smoke: tuple[Path, dict[str, Any]], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    process = begin(home, "--set", "execution.silence_seconds=20")
    wait_until(lambda: step(home) > 20, "steps", process)
    assert not list((tmp_path / "temporary").iterdir()), "all files are in the home"
    os.kill(ranks(home)[-1], signal.SIGSTOP)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert "training hangs: no sign of life of rank" in errors and "(execution.silence_seconds: 20)" in errors
    assert digests(report_of(subprocess.CompletedProcess([], 0, output, errors))) == digests(undisturbed)
    wait_until(lambda: not living_processes(home), "not even the one that hung is left")
