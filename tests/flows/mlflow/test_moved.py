"""A home that was copied records into itself, and the old one stays byte for byte as it was."""

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flows.mlflow.place import prepare_database
from flows.mlflow.registry import Model
from flows.mlflow.tracker import Tracker
from storage.errors import StoreError
from storage.store.artifacts import Part

FILES = {"README.md": "a card", "components/tokenizer/tokenizer.json": "{}"}


def release(home: Path) -> Part:
    path = home / "store" / "parts" / "release" / "release" / (64 * "a")
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return Part("release", 64 * "a", path, ())


def record(home: Path, name: str) -> Tracker:
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for children: a process has one home
    tracker = Tracker(home, name, {"name": "smoke"})
    tracker.start()
    tracker.start_stage("filter", {}, ["never built"], [release(home)])
    tracker.finish_stage("filter", "built", {"kept": 1}, [])
    tracker.register(Model("toy", release(home)))
    tracker.finish("completed")
    assert tracker.failures == []
    return tracker


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_mode, _contents(path))
        for path in folder.rglob("*")
    }


def _contents(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "old home 100%"


def client_of(tracker: Tracker) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracker.uri)


@pytest.mark.parametrize("tagged", [True, False], ids=["says whose it is", "from before it said so"])
def test_a_run_in_a_copy_leaves_the_old_home_as_it_was(home: Path, tmp_path: Path, tagged: bool) -> None:
    first = record(home, "one")
    if not tagged:
        with sqlite3.connect(home / "mlflow" / "mlflow.db") as database:
            database.execute("delete from experiment_tags")
    before, copy = state(home), tmp_path / "elsewhere" / "copy"
    shutil.copytree(home, copy)
    second = record(copy, "two")
    assert state(home) == before
    client = client_of(second)
    for tracker in (first, second):
        assert client.get_run(tracker.run_id).info.artifact_uri.startswith(copy.as_uri())
        assert Path(client.download_artifacts(tracker.run_id, "recipe.json")).is_file()
    location = client.get_model_version_download_uri("toy", "1")
    assert location.startswith(copy.as_uri())
    with sqlite3.connect(copy / "mlflow" / "mlflow.db") as database:
        left = [line for line in database.iterdump() if home.name in line or home.as_uri() in line]
    assert left == []


def test_artifacts_that_the_user_has_put_elsewhere_stay_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (tmp_path / "data" / "mlflow" / "artifacts").as_uri()
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", place)
    record(home, "one")
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    shutil.copytree(home, tmp_path / "copy")
    second = record(tmp_path / "copy", "two")
    assert client_of(second).get_experiment(second.experiment_id).artifact_location == place
    assert client_of(second).get_run(second.run_id).info.artifact_uri.startswith(place)


def test_a_database_that_is_in_use_for_long_is_refused_in_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home, "one")
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr("flows.mlflow.moved.BUSY_SECONDS", 0.1)
    with sqlite3.connect(copy / "mlflow" / "mlflow.db", isolation_level=None) as holder:
        holder.execute("begin immediate")
        with pytest.raises(StoreError, match=r"to a home that was at file://.*End what uses it"):
            prepare_database(copy)
        holder.execute("rollback")
