"""Retraining with something to decide: new text, a worse guard, a start from scratch, a damaged champion; MLflow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, outcomes, report_of, unwrapped

from storage.runs import find_run
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs, read_refs

pytestmark = pytest.mark.slow

MORE = ("--set", "collect.synthetic.documents=480")


@pytest.fixture(scope="module")
def champion(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose champion is the smoke run's model. Not to be written to."""
    home = tmp_path_factory.mktemp("champion") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    report_of(llmill("promote", "latest", "--json", home=home))
    return home


@pytest.fixture(scope="module")
def promoted(champion: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home in which new text made a better model; and that run, in Prefect and MLflow. Not to be written to."""
    home = tmp_path_factory.mktemp("promoted") / "home"
    shutil.copytree(champion, home, symlinks=True)
    return home, report_of(llmill("retrain", "smoke", *MORE, "--json", home=home))


@pytest.fixture
def champion_home(champion: Path, home: Path) -> Path:
    shutil.copytree(champion, home, dirs_exist_ok=True, symlinks=True)
    return home


@pytest.fixture
def promoted_home(promoted: tuple[Path, dict[str, Any]], home: Path) -> Path:
    shutil.copytree(promoted[0], home, dirs_exist_ok=True, symlinks=True)
    return home


def test_new_text_makes_a_better_model_that_takes_the_champion_s_place(
    promoted: tuple[Path, dict[str, Any]], champion: Path, command: Command
) -> None:
    home, report = promoted
    names = ["collect", "deduplicate", "filter", "tokenize", "pretrain", "finetune", "evaluate", "champion", "verdict"]
    assert outcomes(report) == dict.fromkeys([*names, "release"], "built"), "all but the tokenizer, which is frozen"
    assert report["verdict"]["decision"] == "promoted"
    assert report["verdict"]["reasons"][0].startswith("held-out text: bits per byte")
    old = read_refs(Store(champion))["champion"]
    refs = read_refs(Store(home))
    assert refs["champion"].note["run"] == report["run"] and refs["previous"] == old
    record = Store(home).builds_of("pretrain")[-1]
    base = Store(champion).artifact(old.note["stages"]["pretrain"])
    assert base is not None and record["identity"]["inputs"]["pretrain/model"] == base["model"].digest
    assert record["summary"]["bits_per_byte"] < record["summary"]["bits_per_byte_before"]
    assert record["summary"]["share_of_new_tokens"] == 0.5


def test_what_looks_at_runs_looks_at_a_retraining_too(promoted: tuple[Path, dict[str, Any]], command: Command) -> None:
    home, report = promoted
    run = report["run"]
    seen = command.json("inspect", f"{run}/champion", home=home)
    assert seen["stage"] == "evaluate" and seen["builds"]
    lineage = command.json("inspect", f"{run}/pretrain", home=home)["lineage"]
    assert [node["stage"] for node in lineage["inputs"]] == ["tokenize", "pretrain", "tokenize"]
    (verdict,) = command.json("cat", f"{run}/verdict", home=home)
    assert verdict["promote"] and {guard["name"] for guard in verdict["guards"]} >= {"cloze/accuracy"}
    first = command.json("runs", home=home)[0]["run"]
    changed = {row["stage"]: row for row in command.json("diff", first, run, home=home)["stages"]}
    assert changed["verdict"]["new_outcome"] == "built" and "champion" in changed
    document = next(iter(command.json("cat", f"{run}/filter", "--limit", "1", home=home)))["id"]
    steps = command.json("explain", run, document, home=home)["steps"]
    assert [step["stage"] for step in steps][-1] == "evaluate"
    page = Path(report["report"]).read_text()
    assert 'id="verdict"' in page and "trained on from the champion" in page and "heldout/bits_per_byte" in page


def test_mlflow_has_the_verdict_and_both_aliases_and_is_set_right(
    promoted_home: Path, promoted: tuple[Path, dict[str, Any]], command: Command
) -> None:
    """The first champion's run was a plain one: MLflow learns of it with --fix."""
    import mlflow

    home = promoted_home
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    model = client.get_registered_model("llmill-smoke")
    release = Store(home).artifact(promoted[1]["verdict"]["candidate"])
    assert release is not None
    version = client.get_model_version_by_alias(model.name, "champion")
    assert version.tags["llmill.release"] == release["release"].digest
    run = client.get_run(find_run(home, promoted[1]["run"])["mlflow"]["run"])
    assert run.data.tags["llmill.verdict"].startswith("promoted: held-out text: bits per byte")

    status, out, _ = command("champion", home=home)
    assert status == 1 and "previous: the store has llmill-smoke" in out and "--fix" in out
    fixed = command.json("champion", "--fix", home=home)["mlflow"]
    assert fixed == {"disagreements": [], "note": "its aliases are set"}
    client.set_registered_model_alias(model.name, "champion", "2")
    status, out, _ = command("champion", home=home)
    assert status == 1 and "champion: the store has llmill-smoke" in out
    before = client.get_model_version_by_alias(model.name, "previous").tags["llmill.release"]
    rolled = command.json("rollback", home=home)
    assert rolled["mlflow"]["disagreements"] == []
    assert client.get_model_version_by_alias(model.name, "champion").tags["llmill.release"] == before


def test_after_a_promotion_and_gc_the_next_retraining_finds_nothing_new(promoted_home: Path, command: Command) -> None:
    command.json("gc", "--keep-runs", "1", home=promoted_home)
    report = command.json("retrain", "smoke", *MORE, home=promoted_home)
    assert report["status"] == "reused" and report["verdict"]["decision"] == "kept"


def test_worse_in_a_guard_keeps_the_champion_and_names_the_guard(champion_home: Path) -> None:
    """Hardly fine-tuned, the model is better on plain text and worse in its answers. A guard that is not a figure is
    refused before anything runs."""
    before = read_refs(Store(champion_home))
    arguments = ("retrain", "smoke", "--plain", "--json", "--set", "finetune.steps=1")
    failed = llmill(*arguments, "--set", "retrain.gate.guards=[nosuch/accuracy]", home=champion_home)
    assert failed.returncode == 2 and "nosuch/accuracy: no such figure" in unwrapped(failed.stderr)
    assert read_refs(Store(champion_home)) == before
    report = report_of(llmill(*arguments, home=champion_home))
    built = [row["stage"] for row in report["stages"] if row["outcome"] == "built"]
    assert built == ["finetune", "evaluate", "verdict", "release"]
    verdict = report["verdict"]
    assert verdict["decision"] == "kept" and verdict["figure"]["verdict"] == "better"
    assert verdict["reasons"][1].startswith("guard answers: bits per byte")
    assert read_refs(Store(champion_home)) == before
    store = Store(champion_home)
    assert store.artifact(verdict["candidate"]) is not None, "it can still be promoted by hand"
    assert llmill("gc", "--keep-runs", "0", home=champion_home).returncode == 0
    assert store.artifact(verdict["candidate"]) is None and store.artifact(verdict["champion"]) is not None


def test_from_scratch_the_tokenizer_is_new_and_the_champion_is_asked_the_same(champion_home: Path) -> None:
    settings = (
        "--set",
        "retrain.start=scratch",
        "--set",
        "tokenizer.vocabulary_size=400",
        "--set",
        "pretrain.steps=4",
        "--set",
        "finetune.steps=2",
    )
    report = report_of(llmill("retrain", "smoke", "--plain", "--json", *settings, home=champion_home))
    found = outcomes(report)
    assert found["tokenizer"] == found["pretrain"] == "built" and found["champion"] == "reused"
    assert report["verdict"]["decision"] == "kept" and report["verdict"]["figure"]["verdict"] == "worse"
    assert report["verdict"]["figure"]["items"] > 10, "bits per byte compare across tokenizers"


def test_a_damaged_champion_is_rebuilt_by_its_recipe(champion_home: Path) -> None:
    store = Store(champion_home)
    base = store.artifact(read_refs(store)["champion"].note["stages"]["pretrain"])
    assert base is not None
    shutil.rmtree(base["model"].path)
    result = llmill("retrain", "smoke", "--plain", home=champion_home)
    assert result.returncode == 0 and "is damaged (pretrain: part missing: model)" in result.stdout, result.stderr
    assert not store.artifact_damage(base)
    assert "champion kept" in result.stdout
    repaired = find_run(champion_home, json.loads(llmill("runs", "--json", home=champion_home).stdout)[-2]["run"])
    assert outcomes(repaired)["pretrain"] == "built" and outcomes(repaired)["release"] == "reused"


def test_a_damaged_champion_gives_way_to_a_sound_model_and_is_nobody_s_previous(champion_home: Path) -> None:
    store = Store(champion_home)
    champion = read_refs(store)["champion"]
    base = store.artifact(champion.note["stages"]["pretrain"])
    assert base is not None
    shutil.rmtree(base["model"].path)
    with changing_refs(store) as names:  # nobody knows how it was made
        names["champion"] = Ref(champion.artifact, champion.keep, {**champion.note, "run": "gone"})
    settings = ("--set", "retrain.start=scratch", "--set", "pretrain.steps=30")
    report = report_of(llmill("retrain", "smoke", "--plain", "--json", *settings, home=champion_home))
    assert report["verdict"]["decision"] == "replaced" and report["verdict"]["champion"] == champion.artifact
    names = read_refs(store)
    assert names["champion"].artifact == report["verdict"]["candidate"] and "previous" not in names
