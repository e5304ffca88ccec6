"""What is garbage, on toy stages: `words` leaves shards, `count` reads them."""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from storage.canonical import digest_file
from storage.errors import StoreError
from storage.files import locked
from storage.runs import Run
from storage.store.artifacts import Artifact, StoredFile
from storage.store.garbage import LEFTOVER_SECONDS, Garbage, collect_garbage
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.stage import engine_in_force, stage


class WordsConfig(StageConfig):
    words: tuple[str, ...] = Field((), description="One a shard.")


def shout(config: Any, inputs: dict[str, Path], out: Path) -> Summary:
    (out / "shard.txt").write_text(inputs["word"].read_text().upper())
    return {}


@stage("words", parts=("words",))
def words(config: WordsConfig, *, context: Context) -> Summary:
    jobs = []
    for word in config.words:
        path = context.work / word
        path.write_text(word)
        jobs.append(Job(word, {}, {"word": StoredFile(word, digest_file(path), len(word), path)}))
    for result in context.map(shout, jobs):
        context.link("words", f"{result.name}.txt", result.files["shard.txt"])
    return {}


@stage("count", parts=("count",), reads={"source": ("words",)})
def count(config: StageConfig, source: Artifact, *, context: Context) -> Summary:
    (context.part("count") / "count.txt").write_text(str(len(source["words"].files)))
    return {}


def run(home: Path, *chosen: str, status: str = "completed", recipe: str = "toy", **fields: Any) -> dict[str, Artifact]:
    """Build both stages and leave a run file of it."""
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        count(StageConfig(), words(WordsConfig(words=chosen)))
    artifacts = {result.stage: result.artifact for result in builder.results if result.artifact}
    made = Run(home, recipe, "nano", {})
    made.data["stages"] = [
        {"stage": name, "outcome": "built", "artifact": {"digest": artifact.digest, "uri": ""}}
        for name, artifact in artifacts.items()
    ]
    made.data |= fields
    if status == "running":
        made.save()
    else:
        made.finish(status, 1.0)
    return artifacts


def collect(home: Path, keep_runs: int, kept: str = "", *, dry_run: bool = False) -> list[Garbage]:
    return collect_garbage(Store(home), keep_runs, lambda artifact: artifact.digest == kept, dry_run=dry_run)


def kinds(found: list[Garbage]) -> dict[str, int]:
    return dict(Counter(garbage.kind for garbage in found))


def files(home: Path) -> set[Path]:
    """All that a stage has left in the home: neither locks nor runs."""
    return {
        path.relative_to(home)
        for folder in ("store", "builds", "work")
        for path in (home / folder).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


EVERYTHING = {"build record": 4, "manifest": 2, "part": 2, "job": 2, "shard": 2}  # a build has a record and its jobs


def test_without_roots_everything_goes_and_a_dry_run_says_so_before(home: Path) -> None:
    run(home, "a", "b")
    before = files(home)
    found = collect(home, 0, dry_run=True)
    assert kinds(found) == EVERYTHING and files(home) == before
    assert collect(home, 0) == found
    assert files(home) == set() and collect(home, 0) == []


def test_what_the_last_runs_the_newest_completed_and_those_under_way_reach_stays(home: Path) -> None:
    run(home, "a")
    for status, chosen in (("completed", "bc"), ("failed", "def"), ("failed", "ghij")):
        run(home, *chosen, status=status)
    going = run(home, *"klmno", status="running")
    assert collect(home, 5, dry_run=True) == []
    gone = collect(home, 2, dry_run=True)  # stay: the last two, and the second as the newest completed
    assert kinds(gone) == {"build record": 8, "manifest": 4, "part": 4, "job": 4, "shard": 4}
    collect(home, 0)
    assert sorted(Store(home).artifacts()) == sorted(artifact.digest for artifact in going.values())


def test_the_only_completed_run_is_the_latest_however_many_have_failed_since(home: Path) -> None:
    made = run(home, "a")
    run(home, "b", "c", status="failed")
    collect(home, 1)
    assert all(Store(home).artifact_damage(artifact) == [] for artifact in made.values())


def test_the_newest_of_each_stage_of_each_recipe_stays_where_runs_are_kept(home: Path) -> None:
    run(home, "a", recipe="old")
    newest = run(home, "b", "c", recipe="old")
    run(home, "d", "e", "f")
    assert kinds(collect(home, 1, dry_run=True)) == {"build record": 4, "manifest": 2, "part": 2, "job": 1, "shard": 1}
    collect(home, 1)
    assert all(Store(home).artifact_damage(artifact) == [] for artifact in newest.values())


def test_what_the_caller_keeps_keeps_the_records_of_its_ancestors_and_not_their_data(home: Path) -> None:
    made = run(home, "a", "b")
    found = collect(home, 0, made["count"].digest)
    assert kinds(found) == {"manifest": 1, "part": 1, "job": 2, "shard": 2}
    assert {one.stage for one in found} == {"words"}
    store = Store(home)
    assert {path.parent.name for path in store.builds.glob("*/*.json")} == {"words", "count"}
    assert store.artifact_damage(made["count"]) == []


def test_what_is_kept_keeps_the_jobs_of_its_build_and_their_shards(home: Path) -> None:
    made = run(home, "a", "b")
    assert kinds(collect(home, 0, made["words"].digest)) == {"build record": 2, "manifest": 1, "part": 1}
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        words(WordsConfig(words=("b", "a", "c")))
    assert builder.results[0].record is not None
    assert (builder.results[0].record["shards_built"], builder.results[0].record["shards_reused"]) == (1, 2)


def test_what_a_name_refers_to_stays(home: Path) -> None:
    made = run(home, "a")
    with changing_refs(Store(home)) as refs:
        refs["champion"] = Ref(made["count"].digest, keep=(made["words"].digest,))
    collect(home, 0)
    assert sorted(Store(home).artifacts()) == sorted(artifact.digest for artifact in made.values())


def test_a_folder_that_a_kept_run_may_resume_stays_with_the_jobs_of_its_stage(home: Path) -> None:
    run(home, "a", building={"words": "0123456789abcdef" + 48 * "0"})
    for digits in ("0123456789abcdef", "fedcba9876543210"):
        (home / "work" / f"words-{digits}").mkdir()
    (home / "work" / "words-aaaaaaaaaaaaaaaa").touch()  # no folder of a build
    found = collect(home, 1)
    assert [(one.kind, one.stage, one.path.name) for one in found] == [
        ("work folder", "words", "words-fedcba9876543210")
    ]
    (home / "runs" / next((home / "runs").glob("*.json")).name).unlink()
    assert kinds(collect(home, 0)) == EVERYTHING | {"job": 1, "shard": 1, "work folder": 1}


def test_a_folder_whose_key_is_held_stays_with_the_jobs_of_its_stage(home: Path) -> None:
    run(home, "a")
    (home / "work" / "words-0123456789abcdef").mkdir()
    with locked(home / "work" / ("0123456789abcdef" + 48 * "0" + ".lock")):
        assert kinds(collect(home, 0, dry_run=True)) == {"build record": 4, "manifest": 2, "part": 2}
    assert kinds(collect(home, 0, dry_run=True))["work folder"] == 1


def test_what_killed_processes_have_left_goes_and_what_may_be_written_just_now_stays(home: Path) -> None:
    made = run(home, "a")
    trash = home / "store" / ".trash-1"
    trash.mkdir()
    (trash / "file").write_bytes(bytes(1000))
    old, young = home / "runs" / ".a.json.1", home / "store" / "artifacts" / ".b.json.2"
    for path in (old, young):
        path.write_bytes(bytes(10))
    for path, age in ((old, LEFTOVER_SECONDS + 60), (young, LEFTOVER_SECONDS - 60)):
        os.utime(path, (time.time() - age, time.time() - age))
    found = collect(home, 1)
    assert [(one.kind, one.path, one.bytes) for one in found] == [("leftover", trash, 1000), ("leftover", old, 10)]
    assert not trash.exists() and not old.exists() and young.exists()
    assert Store(home).artifact_damage(made["words"]) == []


def test_records_that_name_no_stage_go_too(home: Path) -> None:
    for folder, text in (("artifacts", "{}"), ("jobs", "{}"), ("artifacts", "[]"), ("jobs", "[]")):
        path = home / "store" / folder / f"{len(text) * 'a'}{text.count('{')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = collect(home, 1)
    assert sorted((one.kind, one.stage) for one in found) == [("job", "")] * 2 + [("manifest", "")] * 2


def test_bytes_are_those_that_the_disk_gets_back(home: Path) -> None:
    """A shard lies in a part and among the shards, by hard links: it counts once, and only where both go."""
    run(home, "abc", "de")
    found = collect(home, 0, dry_run=True)
    both = [one for one in found if one.kind in ("part", "shard") and one.stage == "words"]
    assert sum(one.bytes for one in both) == 5
    os.link(next(home.glob("store/shards/words/*")), home / "kept elsewhere")
    fewer = [one for one in collect(home, 0, dry_run=True) if one.kind in ("part", "shard") and one.stage == "words"]
    assert sum(one.bytes for one in fewer) in (2, 3)


def test_a_damaged_run_file_stops_it_by_name(home: Path) -> None:
    run(home, "a")
    (home / "runs" / "cut.json").write_text("{")
    with pytest.raises(StoreError, match=r"cut\.json: is damaged"):
        collect(home, 0)


def test_a_home_that_is_not_there_has_no_garbage(tmp_path: Path) -> None:
    assert collect(tmp_path / "nowhere", 0) == []
    assert not (tmp_path / "nowhere").exists()
