"""`llmill gc`: nothing that is reached goes, beside a run neither, and what is not reached does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, digests, llmill, llmill_command, outcomes, report_of

from flows.mlflow.registry import Model
from flows.mlflow.tracker import Tracker
from storage.files import locked
from storage.store.artifacts import Part
from storage.store.garbage import collect_garbage
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs


@pytest.fixture
def copy(two_runs: Path, home: Path) -> Path:
    """A home of this test's own with two runs."""
    shutil.copytree(two_runs, home, dirs_exist_ok=True, symlinks=True)
    return home


def files(home: Path) -> set[Path]:
    folders = (home / "store", home / "builds")
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


def sweep(home: Path, keep_runs: int = 5, **options: Any) -> list[tuple[str, str]]:
    found = collect_garbage(
        Store(home), keep_runs, lambda artifact: artifact.stage == "release", **{"dry_run": False, **options}
    )
    return sorted((garbage.kind, garbage.stage) for garbage in found)


def artifacts(home: Path) -> set[str]:
    return set(Store(home).artifacts())


def reached(run: dict[str, Any]) -> set[str]:
    return {row["artifact"]["digest"] for row in run["stages"]}


def known_runs(home: Path) -> list[dict[str, Any]]:
    return sorted((json.loads(path.read_text()) for path in (home / "runs").glob("*.json")), key=lambda r: r["started"])


def test_what_the_kept_runs_reached_stays_and_nothing_else(copy: Path) -> None:
    first, second = known_runs(copy)
    assert sweep(copy) == [], "all of it is reached by one of five runs"
    assert artifacts(copy) == reached(first) | reached(second)
    before = files(copy)
    planned = sweep(copy, 1, dry_run=True)
    assert files(copy) == before, "a dry run deletes nothing"
    assert sweep(copy, 1) == planned
    assert ("part", "finetune") in planned and ("part", "pretrain") not in planned
    releases = {
        row["artifact"]["digest"] for run in (first, second) for row in run["stages"] if row["stage"] == "release"
    }
    assert artifacts(copy) == reached(second) | releases, "the older release stays, its training data do not"
    assert sweep(copy, 1) == []


def test_the_store_is_whole_afterwards_and_the_kept_run_costs_nothing(copy: Path) -> None:
    freed = json.loads(llmill("gc", "--keep-runs", "1", "--json", home=copy).stdout)
    assert freed["bytes"] > 0 and sum(row["bytes"] for row in freed["stages"]) == freed["bytes"]
    assert all(not Path(row["path"]).exists() for row in freed["paths"])
    verified = report_of(llmill("verify", "--json", home=copy))
    assert verified["damaged"] == 0 and verified["bytes"] > 0
    again = report_of(llmill("run", "smoke", "--plain", "--json", "--set", "finetune.steps=10", home=copy))
    assert again["status"] == "reused"


def test_jobs_of_kept_builds_stay_so_that_new_data_cost_new_shards_only(copy: Path) -> None:
    """The first documents' signatures are not part of any artifact, and are still there when documents are added."""
    sweep(copy, 1)
    jobs = set((copy / "store" / "jobs").iterdir())
    arguments = ("--plain", "--json", "--to", "deduplicate", "--set", "collect.synthetic.documents=400")
    report = report_of(llmill("run", "smoke", *arguments, "--set", "deduplicate.threshold=0.85", home=copy))
    assert outcomes(report)["deduplicate"] == "built"
    new = [json.loads(path.read_text()) for path in set((copy / "store" / "jobs").iterdir()) - jobs]
    assert all("signatures.bin" not in {file["name"] for file in job["files"]} for job in new), "signed anew"


def test_with_no_run_kept_releases_and_named_references_remain(copy: Path) -> None:
    first = known_runs(copy)[0]
    tuned = next(row["artifact"]["digest"] for row in first["stages"] if row["stage"] == "finetune")
    with changing_refs(Store(copy)) as names:
        names["champion"] = Ref(tuned)
    sweep(copy, 0)
    stages = sorted(Store(copy).artifact(digest).stage for digest in artifacts(copy))  # type: ignore[union-attr]
    assert stages == ["finetune", "release", "release"] and tuned in artifacts(copy)
    lineage = report_of(llmill("inspect", tuned, "--json", home=copy))["lineage"]
    assert [node["stage"] for node in lineage["inputs"]] == ["pretrain", "tokenizer", "filter"]
    assert not any(node["there"] for node in lineage["inputs"]), "known by build records alone"


def test_a_build_under_way_or_to_be_resumed_keeps_its_folder_and_its_stage_s_shards(copy: Path) -> None:
    store = Store(copy)
    key, other, resumable = "a" * 64, "b" * 64, "c" * 64
    folders = [store.work / f"{stage}-{digits[:16]}" for stage, digits in
               (("deduplicate", key), ("tokenize", other), ("pretrain", resumable))]  # fmt: skip
    for folder in folders:
        (folder / "keep").mkdir(parents=True)
        (folder / "keep" / "state").write_text("1" * 1000)
    run = known_runs(copy)[-1] | {"status": "interrupted", "building": {"pretrain": resumable}}
    (copy / "runs" / f"{run['run']}.json").write_text(json.dumps(run))
    shards = set((copy / "store" / "shards" / "deduplicate").iterdir())
    assert shards
    with locked(store.work / f"{key}.lock"):
        sweep(copy, 1)
        assert [folder.exists() for folder in folders] == [True, False, True]
        sweep(copy, 0)
        assert [folder.exists() for folder in folders] == [True, False, False]
        assert set((copy / "store" / "shards" / "deduplicate").iterdir()) == shards
    sweep(copy, 0)
    assert not folders[0].exists() and not list((copy / "store" / "shards" / "deduplicate").iterdir())


def test_what_killed_processes_left_goes(copy: Path) -> None:
    trash = copy / "store" / "parts" / "filter" / "documents" / ".trash-1"
    trash.mkdir()
    old, new = (copy / "store" / "artifacts" / f".{name}.json.1" for name in ("old", "new"))
    for path in (old, new):
        path.write_text("{")
    os.utime(old, (0, 0))
    record = copy / "builds" / "filter" / ("d" * 64 + ".json")
    record.write_text("{")
    assert sweep(copy) == [("build record", "filter"), ("leftover", ""), ("leftover", "")]
    assert not trash.exists() and not old.exists() and new.exists(), "a writer may still be at the new one"


def test_a_run_that_cannot_be_read_stops_it(copy: Path) -> None:
    (copy / "runs" / "broken.json").write_text("{")
    before = files(copy)
    result = llmill("gc", "--keep-runs", "0", home=copy)
    assert result.returncode == 2 and "broken.json" in result.stderr and files(copy) == before


def test_beside_a_run_again_and_again(copy: Path, two_runs: Path) -> None:
    """While a run builds and reuses, `gc` that keeps nothing else runs in a loop: the run ends as it would alone."""
    arguments = ["run", "smoke", "--plain", "--json", "--to", "tokenizer", "--force", "filter"]
    run = subprocess.Popen(
        [*llmill_command(), *arguments], env={**os.environ, "LLMILL_HOME": str(copy)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    sweeps = 0
    while run.poll() is None:
        sweep(copy, 0)
        sweeps += 1
    out, err = run.communicate()
    assert run.returncode == 0, err
    assert sweeps > 3
    alone = digests(known_runs(two_runs)[0])
    made = digests(json.loads(out))
    assert made == {label: digest for label, digest in alone.items() if label in made}
    verified = report_of(llmill("verify", "--json", home=copy))
    assert verified["damaged"] == 0


# In MLflow ------------------------------------------------------------------------------------------------------


def state(home: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(home)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in home.rglob("*")
        if "cache" not in path.parts
    }


def released(home: Path, digest: str) -> Part:
    return Part("release", digest, home / "store" / "parts" / "release" / "release" / digest, ())


def test_versions_of_releases_that_go_are_forgotten_with_their_files_and_no_others(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    kept, dead = released(copy, digests(known_runs(copy)[0])["release/release"]), released(copy, "d" * 64)
    dead.path.mkdir()
    (dead.path / "model.safetensors").write_bytes(b"7" * 12345)
    tracker = Tracker(copy, "run", {})
    tracker.start()
    assert [tracker.register(Model("toy", part)) for part in (kept, dead)] == ["1", "2"]
    client = mlflow.MlflowClient(tracker.uri)
    theirs = client.create_logged_model(str(tracker.experiment_id), "theirs")
    client.log_model_artifacts(theirs.model_id, str(dead.path))
    client.create_registered_model("theirs")
    client.create_model_version("theirs", f"models:/{theirs.model_id}", model_id=theirs.model_id)
    gone = Path(client.get_model_version_download_uri("toy", "2").removeprefix("file://"))
    assert tracker.failures == [] and list(gone.iterdir())
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow has set it

    before = state(copy)
    planned = json.loads(llmill("gc", "--dry-run", "--json", home=copy).stdout)
    assert state(copy) == before
    assert [row for row in planned["paths"] if row["kind"] == "model version"] == [
        {"kind": "model version", "stage": "release", "path": str(gone), "bytes": 12345}
    ]
    done = json.loads(llmill("gc", "--json", home=copy).stdout)
    assert done["paths"] == planned["paths"] and "mlflow" not in done
    assert [str(version.version) for version in client.search_model_versions("name = 'toy'")] == ["1"]
    assert not gone.exists() and not gone.parent.exists()
    models = client.search_logged_models([str(tracker.experiment_id)])
    assert sorted(model.name for model in models) == ["theirs", "toy"]
    for name, file in (("toy", "model.safetensors"), ("theirs", "model.safetensors")):
        folder = client.get_model_version_download_uri(name, "1").removeprefix("file://")
        assert (Path(folder) / file).is_file()
    assert json.loads(llmill("gc", "--json", home=copy).stdout)["paths"] == []


def test_a_database_of_mlflow_that_is_damaged_stops_no_clearing(copy: Path) -> None:
    (copy / "mlflow" / "artifacts" / "models" / "m-1").mkdir(parents=True)
    (copy / "mlflow" / "mlflow.db").write_text("no database at all")
    result = llmill("gc", "--keep-runs", "1", home=copy)
    assert result.returncode == 0 and "Traceback" not in result.stderr
    assert "MLflow: not all of its versions were checked" in result.stdout and " freed" in result.stdout


def test_mlflow_is_not_imported_where_nothing_was_registered(copy: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli.main", "gc"]
    environment = {**os.environ, "LLMILL_HOME": str(copy)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "storage.store.garbage" in imported and "mlflow" not in imported
