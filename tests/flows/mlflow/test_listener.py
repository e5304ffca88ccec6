"""What MLflow records of a whole run: nothing secret, nothing that could hold a run up."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from flows.build import BUILD
from flows.mlflow.listener import figures, origin_tags, settings
from flows.recipe import load_recipe
from storage.store.artifacts import Artifact, Part
from tasks.engine.listener import StageResult
from tasks.engine.provenance import source_commit

RUN = {"pipeline": "build", "options": {"to": "evaluate"}, "stages": [], "seconds": 2.5}


def test_settings_say_the_sources_without_passwords() -> None:
    source = 'collect.files=[{name: books, path: "/data/x?token=hunter2"}]'
    chosen = settings(load_recipe("smoke", [source, "pretrain.seed=7"]), RUN, BUILD)
    assert chosen["to"] == "evaluate" and chosen["pretrain.seed"] == "7" and len(chosen) <= 24
    assert "books" in chosen["collect.sources"] and "synthetic (400 documents)" in chosen["collect.sources"]
    assert "hunter2" not in json.dumps(chosen)


def test_benchmarks_are_figures_of_the_run_under_names_that_mlflow_takes(tmp_path: Path) -> None:
    line = {"name": "arc,easy", "metric": "acc", "model": "tuned", "value": 0.25}
    lines = [line, {**line, "value": None, "metric": "f1"}, {**line, "name": "heldout", "metric": "bits_per_byte"}]
    (tmp_path / "scores.json").write_text(json.dumps(lines))
    scores = Artifact("evaluate", "d", {"scores": Part("scores", "d", tmp_path, ())})
    result = StageResult("evaluate", "reused", (), artifact=scores)
    assert figures(RUN, [result], BUILD) == {
        "arc_easy/acc/tuned": 0.25,
        "seconds": 2.5,
    }


def test_no_other_stage_has_a_part_that_is_read_as_the_scores_of_an_evaluation() -> None:
    """Those of classes are of another form: the run ended with an error when it was done."""
    assert {stage.name for stage in BUILD.stages if "scores" in stage.parts} == {"evaluate"}


def test_the_commit_is_that_of_the_checkout_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    assert source_commit(tmp_path) is None, "no commit yet"
    git("commit", "-q", "--allow-empty", "-m", "one")
    assert source_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "inside").mkdir()
    assert source_commit(tmp_path / "inside") is None, "another project around the code is not its checkout"


def test_a_git_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("tasks.engine.provenance.GIT_SECONDS", 0.2)
    started = time.monotonic()
    assert source_commit(tmp_path) is None
    assert time.monotonic() - started < 30


def test_a_user_whom_nobody_knows_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    assert origin_tags()["mlflow.user"] == "unknown"
