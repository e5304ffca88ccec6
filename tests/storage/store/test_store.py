"""The store by itself: what is published is named by its contents, never changes, and is known when damaged."""

import os
from pathlib import Path
from typing import Any

import pytest

from storage.canonical import digest_file
from storage.errors import StoreError
from storage.store.artifacts import Part, StoredFile
from storage.store.local import PUBLISHED_TIME, Store, is_intact, seal


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


def publish(store: Store, folder: Path, **files: str) -> Part:
    """A part `words` of the stage `toy` with these files, one of them in a folder below."""
    (folder / "below").mkdir(parents=True)
    for name, text in files.items():
        (folder / ("below" if name == "deep" else "") / f"{name}.txt").write_text(text)
    return store.publish_part("toy", "words", folder, {})


def test_a_part_lies_under_the_digest_of_its_contents_and_cannot_be_written(store: Store, tmp_path: Path) -> None:
    part = publish(store, tmp_path / "a", one="1", deep="22")
    assert part.path == store.home / "store" / "parts" / "toy" / "words" / part.digest
    assert [(file.name, file.bytes) for file in part.files] == [("below/deep.txt", 2), ("one.txt", 1)]
    assert [file.digest for file in part.files] == [digest_file(file.path) for file in part.files]
    for file in part.files:
        assert file.path.stat().st_mtime == PUBLISHED_TIME and file.path.stat().st_mode & 0o777 == 0o444
    assert store.damage(part) == [] and not (tmp_path / "a").exists()
    again = publish(store, tmp_path / "b", one="1", deep="22")
    assert again == part and not (tmp_path / "b").exists()
    assert publish(store, tmp_path / "c", one="1", deep="23").digest != part.digest
    assert publish(store, tmp_path / "d", two="1", deep="22").digest != part.digest, "names are contents"


def test_files_that_are_known_are_not_read_again(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("1")
    known = StoredFile("one.txt", 64 * "a", 1, tmp_path)
    part = store.publish_part("toy", "words", tmp_path / "a", {"one.txt": known})
    assert [file.digest for file in part.files] == [64 * "a"]


def test_damage_is_reported_file_by_file_and_a_new_copy_heals_it(store: Store, tmp_path: Path) -> None:
    part = publish(store, tmp_path / "a", one="1", two="22", deep="33")
    one, two = part.path / "one.txt", part.path / "two.txt"
    one.unlink()
    two.chmod(0o644)
    two.write_text("xx")
    assert store.damage(part) == ["part missing: words/one.txt", "part damaged: words/two.txt"]
    assert publish(store, tmp_path / "b", one="1", two="22", deep="33") == part
    assert store.damage(part) == [] == store.damage(part, full=True)
    part.path.rename(tmp_path / "elsewhere")
    assert store.damage(part) == ["part missing: words"]


def test_a_file_that_kept_its_time_and_size_is_found_by_a_full_look_and_then_by_any(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("good")
    file = StoredFile("file", seal(path), 4, path)
    path.chmod(0o644)
    path.write_text("evil")
    os.utime(path, (PUBLISHED_TIME, PUBLISHED_TIME))
    assert is_intact(file), "a cheap look sees size and time"
    assert not is_intact(file, full=True)
    assert not is_intact(file), "the time of what was found damaged has moved"
    path.write_text("good")
    assert is_intact(file) and path.stat().st_mtime == PUBLISHED_TIME, "what is whole gets its time back"
    path.write_text("longer")
    assert not is_intact(file)
    assert not is_intact(StoredFile("file", file.digest, 4, path / "below"))


def test_an_artifact_is_read_back_by_its_digest_and_a_damaged_manifest_is_none(store: Store, tmp_path: Path) -> None:
    part = publish(store, tmp_path / "a", one="1")
    artifact = store.publish_artifact("toy", {"words": part})
    assert store.artifact(artifact.digest) == artifact and list(store.artifacts()) == [artifact.digest]
    assert store.artifact(64 * "0") is None
    path = store.root / "artifacts" / f"{artifact.digest}.json"
    path.write_text(path.read_text().replace('"toy"', '"boy"'))
    assert store.artifact(artifact.digest) is None
    path.write_text("[]")
    assert store.artifact(artifact.digest) is None
    path.write_text('{"format": 2}')
    with pytest.raises(StoreError, match=rf"{path}: written by a newer llmill \(format 2, this one reads 1\)"):
        store.artifact(artifact.digest)


def test_shards_of_equal_contents_are_stored_once_and_a_job_is_known_while_its_shards_are_whole(
    store: Store, tmp_path: Path
) -> None:
    files = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same")
        files.append(store.publish_shard("toy", tmp_path / name))
        assert not (tmp_path / name).exists()
    assert [file.name for file in files] == ["a.txt", "b.txt"] and files[0].path == files[1].path
    store.record_job("toy", "j1", files, {"kept": 2}, alike="x")
    store.record_job("toy", "j2", files[:1], {"kept": 1}, alike="y")
    found = store.jobs(["j1", "j2", "j3"])
    assert found["j1"].summary == {"kept": 2} and found["j1"].stage == "toy" and found.keys() == {"j1", "j2"}
    assert found["j1"].files == {file.name: file for file in files}
    (store.root / "jobs" / "j2.json").write_text('{"stage": "toy"')
    assert store.jobs(["j1", "j2"]).keys() == {"j1"}
    files[0].path.unlink()
    assert store.jobs(["j1"]) == {}


def test_of_alike_jobs_the_latest_counts(store: Store, tmp_path: Path) -> None:
    for number, (stage, alike) in enumerate([("toy", "x"), ("toy", "x"), ("other", "x"), ("toy", "y"), ("toy", "z")]):
        store.record_job(stage, f"j{9 - number}", [], {"number": number}, alike)
        os.utime(store.root / "jobs" / f"j{9 - number}.json", (1000 + number, 1000 + number))
    found = store.jobs_alike("toy", ["x", "z", "none"])
    assert {alike: job.summary["number"] for alike, job in found.items()} == {"x": 1, "z": 4}


def record(**changes: Any) -> dict[str, Any]:
    identity = {"version": 1, "code": {}, "config": {}, "inputs": {}, "observed": {}, "libraries": {}}
    whole = {"format": 1, "stage": "toy", "key": "0a", "artifact": "d", "finished": "2026-01-01", "run": "r"}
    return whole | {"identity": identity, "summary": {}, "seconds": 1.5, "why": []} | changes


def test_build_records_are_listed_newest_last_and_equal_times_by_key(store: Store) -> None:
    for key, finished in (("0c", "2026-01-02"), ("0b", "2026-01-01"), ("0a", "2026-01-02")):
        store.record_build(record(key=key, finished=finished))
    store.record_build(record(stage="other"))
    assert [row["key"] for row in store.builds_of("toy")] == ["0b", "0a", "0c"]
    store.record_build(record(key="0b", finished="2026-01-03"))
    assert [row["key"] for row in store.builds_of("toy")] == ["0a", "0c", "0b"], "a new state of a file is seen"
    found = store.build("toy", "0b")
    assert found is not None and found["finished"] == "2026-01-03" and found["seconds"] == 1.5
    assert store.build("toy", "0d") is None and store.builds_of("none") == []
    store.record_jobs("toy", "0b", {"z", "a"})
    assert store.jobs_of("toy", "0b") == ["a", "z"] and store.jobs_of("toy", "0a") == []


@pytest.mark.parametrize("name", ["artifact", "finished", "run", "identity", "summary", "seconds", "why"])
def test_a_build_record_without_what_decisions_need_is_as_good_as_none(store: Store, name: str) -> None:
    store.record_build(record())
    assert store.damaged_builds() == []
    store.record_build(record(**{name: None}))
    assert store.build("toy", "0a") is None and store.builds_of("toy") == []
    assert store.damaged_builds() == [store.builds / "toy" / "0a.json"]


@pytest.mark.parametrize("name", ["version", "code", "config", "inputs", "observed", "libraries"])
def test_a_build_record_needs_each_part_of_its_identity(store: Store, name: str) -> None:
    store.record_build(record(identity=record()["identity"] | {name: "x"}))
    assert store.build("toy", "0a") is None


def test_a_build_record_that_was_changed_or_is_newer_is_not_believed(store: Store) -> None:
    store.record_build(record())
    path = store.builds / "toy" / "0a.json"
    path.write_text(path.read_text().replace("2026-01-01", "2026-01-02"))
    assert store.build("toy", "0a") is None and store.damaged_builds() == [path]
    store.record_build(record(format=2))
    with pytest.raises(StoreError, match=r"0a\.json: written by a newer llmill"):
        store.build("toy", "0a")


def test_names_are_what_was_written_last(store: Store) -> None:
    assert store.read_names() is None
    store.write_names(b"one")
    store.write_names(b"two")
    assert store.read_names() == b"two" and store.names_path.read_bytes() == b"two"
