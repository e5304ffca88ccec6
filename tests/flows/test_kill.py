"""kill -9 of the main process at any moment loses nothing and leaves nothing running."""

import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import (
    PATIENCE_SECONDS,
    ROOT,
    digests,
    drawn_moments,
    llmill,
    llmill_command,
    outcomes,
    processes_of,
    report_of,
    wait_until,
)

PREFECT_SECONDS = 12.0  # that a run needs besides its stages: it starts a server, writes to it and to MLflow


def kill_at(home: Path, arguments: list[str], seconds: float) -> bool:
    """Start a run, kill only its main process after a while; returns whether it was still running."""
    process = subprocess.Popen(
        [*llmill_command(), "run", "smoke", *arguments],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def assert_nothing_is_held(home: Path) -> None:
    """Soon no process of a killed run is left, and none of its locks: nobody waits for the dead."""
    wait_until(lambda: not [*processes_of(home), *held_locks(home)], "no process and no lock of the killed run is left")


def held_locks(home: Path) -> list[str]:
    held = []
    for path in home.rglob("*.lock"):
        with path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(str(path))
    return held


def assert_whole(home: Path, arguments: list[str], expected: dict[str, str]) -> None:
    """The next run goes to the end: equal digests, no run of the past still open."""
    report = report_of(llmill("run", "smoke", "--json", *arguments, home=home))
    assert digests(report) == expected
    assert "skipped" not in outcomes(report).values()
    statuses = [run["status"] for run in _runs(home)]
    assert statuses[-1] in ("completed", "reused") and "running" not in statuses
    assert_nothing_is_held(home)


def campaign(home: Path, kills: int, arguments: list[str], whole_seconds: float, expected: dict[str, str]) -> None:
    """Kill runs at random moments until so many were under way; after one that got through, start from nothing."""
    moments = drawn_moments()
    killed = 0
    while killed < kills:
        if kill_at(home, arguments, moments.uniform(0.3, whole_seconds)):
            killed += 1
            assert_nothing_is_held(home)
        else:
            assert_whole(home, arguments, expected)
            shutil.rmtree(home)
    assert_whole(home, arguments, expected)


def test_three_kills_at_random_moments_then_a_run_with_equal_digests(
    smoke: tuple[Path, dict[str, Any]], home: Path
) -> None:
    campaign(home, 3, ["--plain"], 0.9 * smoke[1]["seconds"], digests(smoke[1]))


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "more_seconds"), [([], PREFECT_SECONDS), (["--plain"], 0.0)])
def test_ten_kills_with_and_ten_without_prefect(
    smoke: tuple[Path, dict[str, Any]], home: Path, arguments: list[str], more_seconds: float
) -> None:
    campaign(home, 10, arguments, smoke[1]["seconds"] + more_seconds, digests(smoke[1]))


PREPARE = """
import sys
from pathlib import Path
from flows.mlflow.tracker import Tracker
tracker = Tracker(Path(sys.argv[1]), "run", {})
print(tracker.disagreements({}, ()), tracker.failures)
"""


@pytest.mark.slow
def test_a_kill_while_mlflow_makes_its_tables_leaves_no_half_database(home: Path) -> None:
    command = [sys.executable, "-c", PREPARE, str(home)]
    for tables in (12, 22, 51, 60, 130, 146, 199):  # in the end there are 218
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and sum(map(_tables, (home / "mlflow").glob("mlflow.*"))) < tables:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[] []\n"


def _tables(database: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("select count(*) from sqlite_master").fetchone()[0])
    except sqlite3.Error:  # no database, or busy
        return 0


@pytest.mark.slow
def test_interrupt_ends_with_130_and_the_next_run_goes_on(home: Path) -> None:
    process = subprocess.Popen(
        [*llmill_command(), "run", "smoke", "--plain", "--to", "pretrain", "--set", "pretrain.steps=2000"],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(home.glob("work/pretrain-*/keep/**/manifest.json")), "a checkpoint is saved", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert process.stderr is not None and "interrupted" in process.stderr.read()
    assert_nothing_is_held(home)
    assert [run["status"] for run in _runs(home)] == ["interrupted"]


def _runs(home: Path) -> list[dict[str, Any]]:
    from storage.runs import runs

    return runs(home)
