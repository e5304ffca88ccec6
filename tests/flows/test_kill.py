"""kill -9 of the main process at any moment loses nothing and leaves nothing running."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, digests, llmill, llmill_command, outcomes, processes_of, report_of

ORPHAN_SECONDS = 5.0


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


def assert_no_orphans(home: Path) -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(home) == []


def campaign(home: Path, times: int, arguments: list[str], whole_seconds: float, seed: int) -> dict[str, Any]:
    """Kill `times` runs at random moments, then let one finish."""
    moments = random.Random(seed)
    for _ in range(times):
        kill_at(home, arguments, moments.uniform(0.3, whole_seconds))
        assert_no_orphans(home)
    report = report_of(llmill("run", "smoke", "--json", *arguments, home=home))
    reused = [stage["seconds"] for stage in report["stages"] if stage["outcome"] == "reused"]
    assert max(reused, default=0) < 5, "a dead holder of a lock is waited for"
    return report


def test_three_kills_at_random_moments_then_a_run_with_equal_digests(
    smoke: tuple[Path, dict[str, Any]], home: Path
) -> None:
    report = campaign(home, 3, ["--plain"], 0.9 * smoke[1]["seconds"], seed=11)
    assert digests(report) == digests(smoke[1])
    assert "skipped" not in outcomes(report).values()
    statuses = [run["status"] for run in _runs(home)]
    assert statuses[-1] in ("completed", "reused") and "running" not in statuses


@pytest.mark.slow
def test_twenty_kills_under_prefect(smoke: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for group in range(2):
        home = tmp_path / f"home {group}"
        report = campaign(home, 10, [], 1.0 * smoke[1]["seconds"] + 15, seed=group)
        assert digests(report) == digests(smoke[1])
        assert_no_orphans(home)
        assert "running" not in [run["status"] for run in _runs(home)]


PREPARE = """
import sys
from pathlib import Path
from storage.tracking import Tracker
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
    deadline = time.monotonic() + 120
    while not list(home.glob("work/pretrain-*/keep/**/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None and "interrupted" in process.stderr.read()
    assert_no_orphans(home)
    assert [run["status"] for run in _runs(home)] == ["interrupted"]


def _runs(home: Path) -> list[dict[str, Any]]:
    from storage.runs import runs

    return runs(home)
