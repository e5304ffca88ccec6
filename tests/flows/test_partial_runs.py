"""Runs that end early hide nothing and push nothing out; runs dated ahead of the clock neither."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import report_of

from flows.inspect.references import resolve
from storage.runs import find_run, runs
from storage.store.garbage import collect_garbage
from storage.store.local import Store


@pytest.fixture
def partial(smoke_home: Path, command: Any) -> Path:
    """A home with one complete run and then five that end at the filter."""
    for _ in range(5):
        status, _, err = command("run", "smoke", "--plain", "--to", "filter", home=smoke_home)
        assert status == 0, err
    return smoke_home


def test_latest_is_the_newest_run_that_has_the_stage(partial: Path) -> None:
    complete = runs(partial)[0]
    assert len(runs(partial)) == 6
    release = next(row for row in complete["stages"] if row["stage"] == "release")
    assert resolve(Store(partial), "latest/release").artifact.digest == release["artifact"]["digest"]
    assert find_run(partial, "latest", "filter")["run"] == runs(partial)[-1]["run"]


def test_generate_and_explain_find_what_they_need(partial: Path, command: Any) -> None:
    status, _, err = command("generate", "Who is Anna?", home=partial)
    assert status == 0, err
    document = json.loads(command("cat", "latest/collect/documents", "--limit", "1", home=partial)[1])["id"]
    assert command("explain", "latest", document, home=partial)[0] == 0


def test_gc_keeps_the_newest_of_each_stage_of_each_recipe(partial: Path) -> None:
    found = collect_garbage(Store(partial), 5, lambda artifact: False, dry_run=True)
    assert not [garbage for garbage in found if garbage.kind == "part"]


def test_runs_dated_ahead_of_the_clock_are_the_oldest(smoke_home: Path) -> None:
    (real,) = runs(smoke_home)
    for number in range(6):
        name = f"smoke-nano-20990101-00000{number}-aaaa"
        ahead = {**real, "run": name, "started": f"2099-01-01T00:00:0{number}+00:00", "stages": []}
        (smoke_home / "runs" / f"{name}.json").write_text(json.dumps(ahead))
    assert find_run(smoke_home, "latest")["run"] == real["run"]
    assert collect_garbage(Store(smoke_home), 5, lambda artifact: False, dry_run=True) == []


def test_a_damaged_release_touches_no_other_stage(smoke_home: Path, command: Any) -> None:
    release = resolve(Store(smoke_home), "latest/release").artifact
    for name in ("model.safetensors", "tokenizer.json"):
        path = release["release"] / name
        assert path.stat().st_nlink == 1
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    status, out, _ = command("plan", "smoke", "--json", home=smoke_home)
    wills = {row["stage"]: row["will"] for row in json.loads(out)["stages"]}
    assert status == 0 and [stage for stage, will in wills.items() if will != "reuse"] == ["release"]


def test_verify_names_build_records_that_are_not_as_they_were_written(smoke_home: Path, command: Any) -> None:
    (record,) = (smoke_home / "builds" / "filter").glob("*.json")
    record.write_text(record.read_text().replace('"seconds":', '"seconds":1', 1))
    foreign = smoke_home / "builds" / "filter" / ("a" * 64 + ".json")
    foreign.write_text('{"format": 1, "stage": "filter"}')
    status, out, _ = command("verify", home=smoke_home)
    assert str(record.relative_to(smoke_home)) in out and str(foreign.relative_to(smoke_home)) in out
    assert status == 1
    (row,) = [row for row in command.json("plan", "smoke", home=smoke_home)["stages"] if row["stage"] == "filter"]
    assert row["will"] == "build", "a record that was edited counts as absent"


def test_the_same_holds_from_a_shell(partial: Path) -> None:
    from support import llmill

    assert report_of(llmill("run", "smoke", "--plain", "--json", home=partial))["status"] == "reused"
