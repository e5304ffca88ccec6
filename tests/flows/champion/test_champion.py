"""The champion by hand, and a retraining that finds nothing new: on a copy of the finished smoke run."""

import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from support import Command, unwrapped

from flows.champion.champion import find_release, promote
from flows.champion.retrain_run import LOCK, execute_retraining
from flows.recipe import load_recipe
from storage.errors import StoreError
from storage.files import locked
from storage.runs import runs
from storage.store.artifacts import Artifact
from storage.store.garbage import collect_garbage
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs, read_refs
from tasks.engine.planner import Options


@pytest.fixture
def with_champion(smoke_home: Path, command: Command) -> Path:
    command.json("promote", "latest", home=smoke_home)
    return smoke_home


def release_of(report: dict[str, Any]) -> str:
    return str(next(row["artifact"]["digest"] for row in report["stages"] if row["stage"] == "release"))


def test_nothing_new_reuses_all_and_keeps_the_champion(with_champion: Path, command: Command) -> None:
    plan = command.json("plan", "smoke", "--retrain", home=with_champion)
    names = ["collect", "deduplicate", "filter", "tokenize", "finetune", "evaluate", "release"]
    assert [(line["stage"], line["will"]) for line in plan["stages"]] == [(name, "reuse") for name in names]
    before = read_refs(Store(with_champion))
    report = command.json("retrain", "smoke", home=with_champion)  # not plain, and yet no server is started
    assert report["status"] == "reused" and report["verdict"]["decision"] == "kept"
    assert report["verdict"]["reasons"] == ["nothing new: the candidate is the champion itself"]
    assert read_refs(Store(with_champion)) == before
    page = Path(report["report"]).read_text()
    assert "Champion kept." in page and "nothing new" in page


def test_only_if_new_runs_until_a_retraining_has_come_to_its_verdict(with_champion: Path, command: Command) -> None:
    """One that was ended before its verdict may have built all that the next one would."""
    arguments = ("retrain", "smoke", "--plain", "--only-if-new")
    decided = command.json(*arguments, home=with_champion)
    assert decided["status"] == "reused" and decided["verdict"]["decision"] == "kept"
    known = len(runs(with_champion))
    again = command.json(*arguments, home=with_champion)
    assert again["run"] is None and again["status"].startswith("nothing new") and len(runs(with_champion)) == known
    path = with_champion / "runs" / f"{decided['run']}.json"
    ended = json.loads(path.read_bytes())
    del ended["verdict"]
    path.write_text(json.dumps(ended | {"status": "interrupted"}))
    assert command.json(*arguments, home=with_champion)["verdict"]["decision"] == "kept"


def test_the_first_model_becomes_the_champion_if_it_is_sound(smoke_home: Path, command: Command) -> None:
    report = command.json("retrain", "smoke", "--plain", home=smoke_home)
    built = [row["stage"] for row in report["stages"] if row["outcome"] == "built"]
    assert built == ["verdict"] and report["verdict"]["decision"] == "first"
    assert "without a rival, and sound" in report["verdict"]["reasons"][0]
    assert command.json("champion", home=smoke_home)["champion"]["run"] == report["run"]


def test_promoting_by_hand_says_who_is_champion_now(
    smoke_home: Path, smoke: tuple[Path, dict[str, Any]], command: Command
) -> None:
    assert command.json("champion", home=smoke_home)["champion"] is None
    release = release_of(smoke[1])
    assert command.json("promote", release[:12], home=smoke_home)["changed"]
    assert not command.json("promote", "latest", home=smoke_home)["changed"], "it is the champion already"
    found = command.json("champion", home=smoke_home)
    assert found["champion"]["release"] == release and found["champion"]["run"] == smoke[1]["run"]
    assert found["previous"] is None and found["damage"] == []
    _, out, _ = command("champion", home=smoke_home)
    assert release[:8] in out and "promoted by hand" in out and "previous    none" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback"], "no champion yet"),
        (["promote", "nosuch"], "neither a run nor a digest"),
        (["promote", "0000000000"], "no artifact or part begins"),
        (["promote", "latest/filter"], "latest/filter"),
    ],
)
def test_bad_input_is_refused(smoke_home: Path, command: Command, arguments: list[str], message: str) -> None:
    status, _, err = command(*arguments, home=smoke_home)
    assert status == 2 and unwrapped(message) in unwrapped(err) and "Traceback" not in err
    assert read_refs(Store(smoke_home)) == {}


def test_a_run_without_a_release_cannot_be_promoted(with_champion: Path, command: Command) -> None:
    run = command.json("run", "smoke", "--plain", "--to", "filter", home=with_champion)["run"]
    status, _, err = command("promote", run, home=with_champion)
    assert status == 2 and "has no release" in unwrapped(err)
    status, _, err = command("rollback", home=with_champion)
    assert status == 2 and "no previous champion" in unwrapped(err)


def test_rollback_changes_places_in_one_step_and_back(two_runs: Path, home: Path, command: Command) -> None:
    shutil.copytree(two_runs, home, dirs_exist_ok=True, symlinks=True)
    first, second = command.json("runs", home=home)
    for run in (first, second):
        command.json("promote", run["run"], home=home)
    assert [read_refs(Store(home))[name].note["run"] for name in ("champion", "previous")] == [
        second["run"],
        first["run"],
    ]
    assert command.json("rollback", home=home)["champion"]["run"] == first["run"]
    assert command.json("rollback", home=home)["champion"]["run"] == second["run"]


def test_gc_keeps_what_a_retraining_goes_on_from(with_champion: Path, command: Command) -> None:
    store = Store(with_champion)
    collect_garbage(store, 0, lambda artifact: False, dry_run=False)
    kinds = sorted(artifact.stage for digest in store.artifacts() if (artifact := store.artifact(digest)))
    assert kinds == ["evaluate", "finetune", "pretrain", "release", "tokenize", "tokenizer"]
    assert command.json("champion", home=with_champion)["damage"] == []


def test_a_second_retraining_waits_for_the_first(with_champion: Path) -> None:
    out = io.StringIO()
    done: list[Any] = []
    call = (load_recipe("smoke"), Options(), out)
    second = threading.Thread(target=lambda: done.append(execute_retraining(*call, plain=True)))
    with locked(Store(with_champion).work / f"{LOCK}.lock"):
        second.start()
        second.join(1.0)
        assert second.is_alive() and "another retraining is under way" in out.getvalue() and not done
    second.join(60)
    assert done[0][0]["verdict"]["decision"] == "kept"


def test_a_champion_that_changed_since_the_comparison_is_not_replaced(two_runs: Path, home: Path) -> None:
    shutil.copytree(two_runs, home, dirs_exist_ok=True, symlinks=True)
    store = Store(home)
    first, second = (find_release(store, run["run"])[0] for run in runs(home))

    def settle(release: Artifact, instead_of: str | None) -> bool:
        return promote(store, release, run="r", by="retrain", reasons=(), instead_of=instead_of)

    assert settle(first, None)
    for compared_with in (second.digest, None):
        with pytest.raises(StoreError, match="retrain again"):
            settle(second, compared_with)
    assert read_refs(store).keys() == {"champion"}
    assert settle(second, first.digest) and read_refs(store)["previous"].artifact == first.digest


def test_a_damaged_release_of_the_champion_is_said_and_made_again(with_champion: Path, command: Command) -> None:
    release, _ = find_release(Store(with_champion), "latest")
    (release["release"] / "config.json").unlink()
    status, out, _ = command("champion", home=with_champion)
    assert status == 1 and "release: part missing: release/config.json" in out
    status, out, err = command("retrain", "smoke", "--plain", home=with_champion)
    assert status == 0 and "champion kept" in out, out + err
    assert command.json("champion", home=with_champion)["damage"] == []


def test_a_damaged_champion_that_cannot_be_rebuilt_is_refused(with_champion: Path, command: Command) -> None:
    """Its run's recipe is gone, so nobody knows how it was made."""
    store = Store(with_champion)
    ref = read_refs(store)["champion"]
    base = store.artifact(ref.note["stages"]["pretrain"])
    assert base is not None
    (base["model"] / "model.safetensors").unlink()
    with changing_refs(store) as names:
        names["champion"] = Ref(ref.artifact, ref.keep, {**ref.note, "run": "gone"})
    for arguments in (("retrain", "smoke", "--plain"), ("plan", "smoke", "--retrain")):
        status, _, err = command(*arguments, home=with_champion)
        assert (
            status == 2
            and "pretrain: part missing: model/model.safetensors" in unwrapped(err)
            and "llmill rollback" in unwrapped(err)
        )
    status, out, _ = command("champion", home=with_champion)
    assert status == 1 and "damaged" in out


def test_another_shape_is_refused_before_anything_runs(with_champion: Path, command: Command) -> None:
    known = command.json("runs", home=with_champion)
    status, _, err = command("retrain", "smoke", "--plain", "--set", "pretrain.layers=1", home=with_champion)
    assert status == 2 and "retrain.start=scratch" in err
    assert command.json("runs", home=with_champion) == known


def test_a_damaged_list_of_names_stops_before_anything_runs(with_champion: Path, command: Command) -> None:
    (with_champion / "store" / "refs.json").write_text("{")
    for arguments in (("champion",), ("retrain", "smoke", "--plain"), ("promote", "latest"), ("gc",)):
        status, _, err = command(*arguments, home=with_champion)
        assert status == 2 and "refs.json: is damaged" in unwrapped(err), arguments


def test_the_recipe_s_section_enters_no_key_of_an_ordinary_build(with_champion: Path, command: Command) -> None:
    settings = ["--set", "retrain.new_share=0.9", "--set", "retrain.gate.confidence=0.8"]
    plan = command.json("plan", "smoke", *settings, home=with_champion)
    assert {line["will"] for line in plan["stages"]} == {"reuse"}
    assert json.loads((with_champion / "store" / "refs.json").read_text())
