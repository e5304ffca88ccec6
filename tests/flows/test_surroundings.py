"""Runs on machines unlike one's own: behind a dead proxy, in a home with an odd name, by a user without a name."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import llmill, llmill_command, report_of, unwrapped

from flows.mlflow.place import tracking_uri
from flows.mlflow.tracker import Tracker
from storage.home import VARIABLE

ODD = "my runs #1 100%25 ok? a&b"
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
NO_EXEMPTION = {"no_proxy": "", "NO_PROXY": ""}


def recorded(home: Path) -> dict[str, str]:
    """The runs in the database of a home that are not deleted: status by name."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri(home))
    return {run.info.run_name: run.info.status for run in client.search_runs([experiment(client).experiment_id])}


def experiment(client: Any) -> Any:
    found = client.get_experiment_by_name("llmill")
    assert found is not None
    return found


def track(home: Path, name: str) -> Tracker:
    tracker = Tracker(home, name, {})
    tracker.start()
    tracker.finish("completed")
    assert tracker.failures == []
    return tracker


def test_a_deleted_experiment_is_restored_with_its_runs_in_a_home_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    home = tmp_path / ODD
    home.mkdir()
    monkeypatch.setenv(VARIABLE, str(home))
    monkeypatch.chdir(tmp_path)
    assert track(home, "first").restored is None
    client = mlflow.MlflowClient(tracking_uri(home))
    client.delete_experiment(experiment(client).experiment_id)
    said = track(home, "second").restored
    assert said is not None and "'llmill' had been deleted" in said
    assert track(home, "third").restored is None
    assert recorded(home) == dict.fromkeys(("first", "second", "third"), "FINISHED")
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    assert (home / "mlflow" / "mlflow.db").stat().st_size > 100_000


@pytest.mark.slow
def test_a_run_behind_a_dead_proxy_in_an_odd_home_restores_its_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    home = tmp_path / ODD
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    track(home, "by hand")
    client = mlflow.MlflowClient(tracking_uri(home))
    client.delete_experiment(experiment(client).experiment_id)
    result = llmill("run", "smoke", "--to", "collect", "--json", home=home, environment=PROXY | NO_EXEMPTION)
    report = report_of(result)
    assert "had been deleted, with its runs; it is restored" in unwrapped(result.stderr)
    assert recorded(home) == dict.fromkeys(("by hand", report["run"], "collect"), "FINISHED")
    assert (home / "prefect" / "prefect.db").stat().st_size > 100_000
    assert [path.name for path in tmp_path.iterdir()] == [ODD]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_a_run_of_a_user_without_name_and_home_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    rights = "+dac_override,+dac_read_search"  # the checkout may lie in a folder of root's
    nobody = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps", rights]
    home = tmp_path / "home"
    command = [*llmill_command(), "run", "smoke", "--to", "collect"]
    done = subprocess.run(
        [*nobody, "--ambient-caps", rights, "env", "-i", "PATH=/usr/bin:/bin", f"{VARIABLE}={home}", *command],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "not everything was recorded" not in done.stdout
    assert "FINISHED" in recorded(home).values()
