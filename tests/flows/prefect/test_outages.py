"""MLflow goes away in the middle of a run, or its database is held: the run goes on, and nothing is lost unsaid."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import llmill_command, processes_of, wait_until

from flows.mlflow import outbox
from flows.mlflow.tracker import Tracker
from flows.prefect.servers import free_port, start_child, wait_healthy

pytestmark = pytest.mark.slow

LONG = 200  # steps of pretraining: long enough to lose a server in the middle


class Mlflow:
    """A server of its own on one port and database, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        command = ["mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--default-artifact-root", (self.folder / "artifacts").as_uri()]
        self.process = start_child(command, self.folder / "log", os.environ)
        wait_healthy(f"{self.address}/health", self.process, self.folder / "log", 120.0)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    mlflow = Mlflow(tmp_path_factory.mktemp("outage") / "mlflow")
    try:
        yield mlflow
    finally:
        mlflow.kill()


def history(client: Any, run_id: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss"))


def test_what_happens_while_the_server_is_away_is_sent_when_it_is_back(
    home: Path, server: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("flows.mlflow.tracker.FLUSH_SECONDS", 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    server.start()
    tracker = Tracker(home, "run", {"name": "smoke"})
    tracker.start()
    tracker.start_stage("pretrain", {"steps": 3}, ["never built"], [])
    tracker.measure("pretrain", [{"step": 1, "loss": 3.0}])
    server.kill()
    started = time.monotonic()
    tracker.measure("pretrain", [{"step": 2, "loss": 2.0}])
    tracker.finish_stage("pretrain", "built", {"tokens": 5}, [])
    tracker.start_stage("finetune", {"steps": 1}, ["never built"], [])
    assert time.monotonic() - started < 60, "left alone, the client asks for minutes"
    assert tracker.unsent > 3
    server.start()
    time.sleep(0.2)
    tracker.measure("finetune", [{"step": 1, "loss": 1.0}])
    tracker.finish_stage("finetune", "built", {}, [])
    tracker.finish("completed")
    assert tracker.failures == []
    client = mlflow.MlflowClient(server.address)
    assert history(client, tracker.stages["pretrain"]) == [(1, 3.0), (2, 2.0)]
    assert history(client, tracker.stages["finetune"]) == [(1, 1.0)]
    assert tracker.experiment_id is not None
    runs = client.search_runs([tracker.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["finetune", "pretrain", "run"], "none is made twice"
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_name = {run.info.run_name: run.info for run in runs}
    assert by_name["finetune"].start_time <= by_name["pretrain"].end_time + 2000, "times are those of the events"


def test_a_run_whose_server_dies_goes_on_without_long_waits_and_says_what_was_not_sent(
    home: Path, server: Mlflow
) -> None:
    if server.process is None:
        server.start()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.address}
    command = [*llmill_command(), "run", "smoke", "--to", "finetune", "--set", f"pretrain.steps={LONG}"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: list(home.glob("work/pretrain-*/keep/metrics.jsonl")), "pretraining is under way", process)
        server.kill()
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "MLflow: not everything was recorded" in out and "Traceback" not in err
    (run,) = (json.loads(path.read_text()) for path in home.glob("runs/*.json"))
    assert run["status"] == "completed" and run["mlflow"]["unsent"] > 5
    assert processes_of(home) == []


@contextmanager
def held(database: Path, seconds: float) -> Iterator[None]:
    """Another program writes to an SQLite database for so long."""
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=30)) as holder:
        holder.execute("begin exclusive")
        release = threading.Timer(seconds, holder.execute, ("rollback",))
        release.start()
        yield
        release.join()


def test_databases_that_another_program_holds_for_seconds_cost_seconds_and_no_record(home: Path) -> None:
    import mlflow

    command = [*llmill_command(), "run", "smoke", "--to", "finetune", "--set", f"pretrain.steps={LONG}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: list(home.glob("work/pretrain-*/keep/metrics.jsonl")), "pretraining is under way", process)
        with held(home / "mlflow" / "mlflow.db", 8.0), held(home / "prefect" / "prefect.db", 8.0):
            out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "not everything was recorded" not in out and "Traceback" not in err, out + err
    (run,) = (json.loads(path.read_text()) for path in home.glob("runs/*.json"))
    assert run["mlflow"]["unsent"] == 0
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("llmill").experiment_id])  # type: ignore[union-attr]
    assert {one.info.status for one in runs} == {"FINISHED"} and len(runs) == 8
    pretraining = next(one.info.run_id for one in runs if one.info.run_name == "pretrain")
    assert [step for step, _ in history(client, pretraining)][-1] == LONG
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        assert database.execute("select state_type from flow_run").fetchall() == [("COMPLETED",)]
