"""Retries and timeouts as an operator meets them: on the terminal, in the run file, the report, Prefect."""

import functools
import json
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Command, llmill, processes_of, report_of, unwrapped

from tasks.collect.stage import collect


def fail_first(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the first calls of what makes synthetic text end as a broken connection does; returns the calls."""
    calls: list[int] = []
    original = collect.function.__globals__["make_synthetic"]

    @functools.wraps(original)
    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise ConnectionResetError(104, "Connection reset by peer")
        return original(*arguments)

    monkeypatch.setitem(collect.function.__globals__, "make_synthetic", failing)
    return calls


RUN = ("run", "smoke", "--plain", "--to", "collect", "--set", "execution.retry_delay_seconds=0.01")


def test_a_retry_is_recorded_everywhere(home: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_first(monkeypatch, 2)
    status, out, err = command(*RUN, home=home)
    assert status == 0, err
    lines = [line for line in out.splitlines() if line.startswith("collect ")]
    assert lines[-3].startswith("collect     retry 1 of 2 in 0.0 s: ") and lines[-3].endswith("reset by peer")
    assert lines[-2].startswith("collect     retry 2 of 2 in 0.0 s: ")
    assert "built" in lines[-1] and "after 2 retries, read" in lines[-1]
    (run,) = (json.loads(path.read_text()) for path in home.glob("runs/*.json"))
    assert run["stages"][0]["attempts"] == 3
    assert [(retry["stage"], retry["number"], retry["of"]) for retry in run["retries"]] == [
        ("collect", 1, 2),
        ("collect", 2, 2),
    ]
    (page,) = home.glob("runs/*.html")
    assert "after 2 retries ([Errno 104] Connection reset by peer)" in page.read_text()


def test_a_stage_without_retries_fails_at_once_and_the_next_run_goes_on(
    home: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, 1)
    status, _, err = command(*RUN, "--set", "execution.stages.collect.retries=0", home=home)
    assert (status, len(calls)) == (1, 1) and "reset by peer" in unwrapped(err)
    assert command.json(*RUN, home=home)["stages"][0]["outcome"] == "built"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("execution.stages.collct.retries=1", "execution.stages.collct: unknown key (did you mean 'collect'?)"),
        (
            "execution.stages.collect.retries=21",
            "execution.stages.collect.retries: input should be less than or equal to 20",
        ),
        (
            "execution.stages.pretrain.timeout_minutes=0",
            "execution.stages.pretrain.timeout_minutes: input should be greater than 0",
        ),
        ("execution.timeout_minutes=soon", "execution.timeout_minutes: input should be a valid number"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(home: Path, command: Command, setting: str, message: str) -> None:
    status, _, err = command("plan", "smoke", "--set", setting, home=home)
    assert status == 2 and unwrapped(message) in unwrapped(err)


@pytest.mark.slow
def test_training_that_runs_out_of_time_keeps_its_checkpoint_and_the_next_run_goes_on(home: Path) -> None:
    run = ("run", "smoke", "--plain", "--json", "--to", "pretrain", "--set", "pretrain.steps=400")
    limit = ("--set", "execution.stages.pretrain.timeout_minutes=0.2", "--set", "execution.checkpoint_interval=5")
    stopped = llmill(*run, *limit, home=home)
    assert stopped.returncode == 2 and "execution.stages.pretrain.timeout_minutes" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert processes_of(home) == []
    assert list(home.glob("work/pretrain-*/keep/checkpoints/*"))
    report_of(llmill(*run, home=home))
    (record,) = (json.loads(path.read_text()) for path in home.glob("builds/pretrain/*.json"))
    assert record["resumed"] is True


FLAKY = """
    import sys, urllib.request
    from pathlib import Path
    from flows.prefect.flow_run import PrefectRun
    from flows.recipe import load_recipe
    from flows.prefect.servers import prefect_server
    from storage.home import prepare_home
    from storage.runs import Run
    from storage.store.local import Store
    from flows.mlflow.tracker import Tracker
    from tasks.engine.config import StageConfig
    from tasks.engine.builder import Builder
    from tasks.engine.stage import engine_in_force, stage

    @stage("collect", parts=("out",))
    def collect(config, *, context):
        calls = Path(sys.argv[1])
        calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
        if len(calls.read_text()) < 3:
            raise ConnectionResetError(104, "Connection reset by peer")
        (context.part("out") / "out.txt").write_text("done")
        return {}

    def walk(engine):
        with engine_in_force(engine):
            collect(StageConfig())

    home = prepare_home()
    recipe = load_recipe("smoke", ["execution.retry_delay_seconds=0.5"])
    with prefect_server(home) as server, Builder(Store(home), recipe.execution) as builder:
        run = Run(home, recipe.name, recipe.pretrain.size, {})
        PrefectRun(server, builder, run, Tracker(home, run.name, {})).execute(recipe, [], walk)
        print(builder.results[0].outcome, builder.results[0].attempts)
"""


@pytest.mark.slow
def test_prefect_shows_the_retries_as_its_own(home: Path, tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(textwrap.dedent(FLAKY))
    said = subprocess.run(
        [sys.executable, str(tmp_path / "flaky.py"), str(tmp_path / "calls")],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LLMILL_HOME": str(home), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert said.stdout.split() == ["built", "3"]
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        names = [name for (name,) in database.execute("select name from task_run_state order by timestamp")]
        runs = database.execute("select state_type, run_count from task_run").fetchall()
    assert names.count("AwaitingRetry") == 2 and names[-1] == "Completed"
    assert runs == [("COMPLETED", 3)]
