"""Run files: what is written, how a run is found, and which are marked dead."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from storage.errors import DataError
from storage.runs import CLOCK_SECONDS, Run, attempts_of, damaged_runs, find_run, mark_closed, mark_dead_runs, runs


def write(home: Path, name: str, **fields: Any) -> str:
    """A run file of the past."""
    (home / "runs").mkdir(exist_ok=True)
    run = {"format": 1, "run": name, "status": "completed", "started": "2026-01-01", "stages": []} | fields
    (home / "runs" / f"{name}.json").write_text(json.dumps(run))
    return name


def test_a_run_writes_what_it_is_and_how_it_ended(home: Path) -> None:
    run = Run(home, "smoke", "nano", {"name": "smoke"})
    assert run.name.startswith("smoke-nano-")
    run.save()
    (found,) = runs(home)
    assert (found["run"], found["status"], found["recipe"]) == (run.name, "running", {"name": "smoke"})
    run.data["stages"].append({"stage": "collect", "outcome": "built"})
    run.finish("completed", 1.23456)
    (found,) = runs(home)
    assert (found["status"], found["seconds"], found["stages"]) == ("completed", 1.235, run.data["stages"])
    assert found["started"] < found["finished"]
    assert list((home / "runs").iterdir()) == [run.path], "no lock is left"


def test_runs_are_listed_by_their_start(home: Path) -> None:
    write(home, "a", started="2026-01-03")
    write(home, "b", started="2026-01-01", prefect={"flow_run": "f"})
    write(home, "c", started="2026-01-02", prefect={"flow_run": "f"})
    assert [run["run"] for run in runs(home)] == ["b", "c", "a"]
    assert [run["run"] for run in attempts_of(home, "f")] == ["b", "c"]
    assert attempts_of(home, "g") == []


def test_a_run_dated_ahead_of_the_clock_is_never_the_newest(home: Path) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=CLOCK_SECONDS - 60)
    write(home, "a", started=soon.isoformat())
    write(home, "b", started=(soon + timedelta(seconds=120)).isoformat())
    write(home, "c", started="2026-01-02")
    assert [run["run"] for run in runs(home)] == ["b", "c", "a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 2},
        {"run": "another"},
        {"status": None},
        {"started": 5},
        {"stages": {}},
        {"stages": ["collect"]},
        {"stages": [{"stage": "collect"}]},
        {"stages": [{"stage": "collect", "outcome": "built"}, {"outcome": "built"}]},
        {"stages": [{"stage": "collect", "outcome": "built", "artifact": "a"}]},
        {"stages": [{"stage": "collect", "outcome": "built", "artifact": {"digest": "a"}}]},
    ],
)
def test_a_file_that_is_not_a_run_of_this_version_is_skipped_and_named(home: Path, fields: dict[str, Any]) -> None:
    write(home, "good", stages=[{"stage": "collect", "outcome": "built"}])
    write(home, "bad", **fields)
    (home / "runs" / "cut.json").write_text('{"format": 1, "ru')
    (home / "runs" / "list.json").write_text("[]")
    assert [run["run"] for run in runs(home)] == ["good"]
    assert [path.stem for path in damaged_runs(home)] == ["bad", "cut", "list"]


def test_a_run_is_found_by_its_name_its_start_its_end_and_as_the_latest(home: Path) -> None:
    write(home, "smoke-nano-20260101-000000-aaaa-more", started="2026-01-01")
    short = write(home, "smoke-nano-20260101-000000-aaaa", started="2026-01-02", status="reused")
    write(home, "quick-micro-20260101-000000-bbbb", started="2026-01-03", status="failed")
    assert find_run(home, "latest")["started"] == "2026-01-02"
    assert find_run(home, short)["started"] == "2026-01-02", "a whole name, though another starts so"
    assert find_run(home, "quick")["started"] == find_run(home, "bbbb")["started"] == "2026-01-03"
    with pytest.raises(DataError, match=r"run smoke: 2 runs have this name: smoke-nano-\S+-more, smoke-nano-\S+-aaaa"):
        find_run(home, "smoke")
    with pytest.raises(DataError, match=r"run 'nano': not known in .*runs"):
        find_run(home, "nano")


def test_the_latest_of_a_stage_is_the_newest_run_that_has_it(home: Path) -> None:
    row = {"stage": "pretrain", "outcome": "built", "artifact": {"digest": "a", "uri": "b"}}
    write(home, "a", started="2026-01-01", stages=[row])
    write(home, "b", started="2026-01-02", status="failed", stages=[row])
    write(home, "c", started="2026-01-03", stages=[{"stage": "pretrain", "outcome": "skipped"}])
    assert find_run(home, "latest", "pretrain")["run"] == "b"
    assert find_run(home, "latest", "release")["run"] == "c"


def test_without_a_completed_run_there_is_no_latest(home: Path) -> None:
    write(home, "a", status="failed")
    with pytest.raises(DataError, match="no completed run yet"):
        find_run(home, "latest")


DEAD = """
import os, sys
from pathlib import Path
from storage.runs import Run
run = Run(Path(sys.argv[1]), "dead", "nano", {})
run.save()
os._exit(9)
"""


def test_a_run_whose_process_is_gone_is_marked_and_reported_until_its_records_are_closed(home: Path) -> None:
    subprocess.run([sys.executable, "-c", DEAD, str(home)], cwd=ROOT, check=False)
    living = Run(home, "living", "nano", {})
    living.save()
    write(home, "done")
    write(home, "open", left_open=True)
    marked = mark_dead_runs(home)
    assert sorted(run["run"].partition("-")[0] for run in marked) == ["dead", "open"]
    status = {run["run"].partition("-")[0]: run["status"] for run in runs(home)}
    assert status == {"dead": "crashed", "living": "running", "done": "completed", "open": "completed"}
    assert [path.stem for path in (home / "runs").glob("*.lock")] == [living.name]
    for run in marked:
        mark_closed(home, run)
    assert mark_dead_runs(home) == []
    living.finish("completed", 1.0)
