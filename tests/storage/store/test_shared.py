"""The shared store by itself: two homes, a folder as the remote, parts and jobs put there by hand."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StoreError
from storage.runs import runs
from storage.store.artifacts import Artifact
from storage.store.local import PUBLISHED_TIME, DamagedError, Store
from storage.store.remote import Remote
from storage.store.shared import KNOWN_RUNS, SharedStore, open_store


class Counting(Remote):
    """Counts the questions for sizes, and notes what is written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked = 0
        self.sent: list[str] = []

    def sizes(self, folder: str, names: Any) -> dict[str, int]:
        names = list(names)
        self.asked += bool(names)
        return super().sizes(folder, names)

    def write(self, key: str, data: bytes) -> None:
        self.sent.append(key)
        super().write(key, data)

    def upload(self, files: Mapping[str, Path], *arguments: Any) -> None:
        self.sent += files
        super().upload(files, *arguments)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/remote"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The remote's folder."""
    return tmp_path / "remote"


def open_home(tmp_path: Path, name: str, url: str) -> SharedStore:
    (tmp_path / name).mkdir(exist_ok=True)
    return SharedStore(tmp_path / name, Counting(url))


def publish(store: Store, **parts: str) -> Artifact:
    """An artifact of the stage `toy` with parts of one file."""
    made = {}
    for name, text in parts.items():
        folder = store.home / "made"
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "file.txt").write_text(text)
        made[name] = store.publish_part("toy", name, folder, {})
    return store.publish_artifact("toy", made)


def job(store: Store, key: str, text: str) -> None:
    path = store.home / "shard.txt"
    path.write_text(text)
    store.record_job("toy", key, [store.publish_shard("toy", path)], {"text": text})


def record(artifact: Artifact, **changes: Any) -> dict[str, Any]:
    identity = {"version": 1, "code": {}, "config": {}, "inputs": {}, "observed": {}, "libraries": {}}
    whole = {"format": 1, "stage": "toy", "key": "0a", "artifact": artifact.digest, "finished": "2026", "run": "r"}
    return whole | {"identity": identity, "summary": {}, "seconds": 1.5, "why": []} | changes


def share(store: SharedStore, artifact: Artifact, *jobs: str) -> dict[str, Any]:
    built = record(artifact)
    store.record_jobs("toy", "0a", jobs)
    store.record_build(built)
    store.share(built)
    return built


def test_a_home_is_shared_where_the_setting_names_a_place(
    home: Path, url: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMILL_STORE", raising=False)
    assert type(open_store(home)) is Store
    monkeypatch.setenv("LLMILL_STORE", "  ")
    assert type(open_store(home)) is Store
    monkeypatch.setenv("LLMILL_STORE", f" {url} ")
    found = open_store(home)
    assert isinstance(found, SharedStore) and found.remote.name == url
    (home / "file").touch()
    monkeypatch.setenv("LLMILL_STORE", f"file://{home}/file/below")
    with pytest.raises(StoreError, match="cannot be read"):
        open_store(home)


def test_what_one_shares_another_finds_and_fetches(tmp_path: Path, url: str) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    made = publish(a, words="1", more="22")
    job(a, "j1", "shard")
    built = share(a, made, "j1")
    a.share_pending()
    (found,) = b.builds_of("toy")
    assert found.items() >= built.items() and b.build("toy", "0a") == found
    assert b.jobs_of("toy", "0a") == ["j1"] and b.jobs(["j1"])["j1"].summary == {"text": "shard"}
    artifact = b.artifact(made.digest)
    assert artifact is not None and list(b.artifacts()) == [made.digest]
    assert b.artifact_damage(artifact) == [], "what is whole in the remote is not lost"
    b.fetch(artifact)
    assert (artifact["words"].path / "deep/er/file.txt").read_text() == "1"
    assert Store(b.home).artifact_damage(artifact) == []


def test_only_what_is_lacking_is_fetched_and_the_progress_is_shown_as_one(tmp_path: Path, url: str) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    made = publish(a, first="1", second="22", third="333")
    share(a, made)
    publish(b, second="22")
    artifact = b.artifact(made.digest)
    assert artifact is not None
    progress: list[tuple[int, int]] = []
    b.fetch(artifact, lambda *way: progress.append(way))
    assert {total for _, total in progress} == {4} and [done for done, _ in progress] == [0, 1, 1, 4]
    b.fetch(artifact, lambda *way: progress.append(way))
    assert len(progress) == 4


def test_nothing_is_asked_or_sent_twice(tmp_path: Path, url: str) -> None:
    a = open_home(tmp_path, "a", url)
    made = publish(a, words="1")
    share(a, made)
    assert isinstance(a.remote, Counting)
    asked, sent = a.remote.asked, list(a.remote.sent)
    assert len(sent) == len(set(sent)) == 4  # blob, manifest, list of jobs, record
    a.share(record(made))
    assert (a.remote.asked, a.remote.sent) == (asked, sent)
    a.record_build(record(made, finished="2027"))
    a.share(record(made, finished="2027"))
    assert a.remote.sent[4:] == [name for name in sent if not name.startswith("store/blobs")], "a newer record goes"
    b = open_home(tmp_path, "b", url)
    share(b, publish(b, words="1"))
    assert isinstance(b.remote, Counting)
    assert not [name for name in b.remote.sent if name.startswith("store/blobs")], "they are there already"


def test_a_job_goes_after_its_files(tmp_path: Path, url: str) -> None:
    a = open_home(tmp_path, "a", url)
    job(a, "j1", "shard")
    share(a, publish(a, words="1"), "j1")
    assert isinstance(a.remote, Counting)
    kinds = [name.split("/")[1] for name in a.remote.sent if name.startswith("store/")]
    assert kinds.index("blobs") < kinds.index("jobs") and kinds.count("blobs") == 2


def test_a_manifest_that_is_damaged_in_the_remote_is_none(tmp_path: Path, url: str, here: Path) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    made = publish(a, words="1")
    share(a, made)
    path = here / "store" / "artifacts" / f"{made.digest}.json"
    path.write_text(path.read_text().replace("words", "wurds"))
    assert b.artifact(made.digest) is None
    path.write_text("[]")
    assert b.artifact(made.digest) is None
    (path.parent / "leftover.tmp").touch()
    assert list(b.artifacts()) == [made.digest]


def test_the_newer_of_two_records_counts(tmp_path: Path, url: str) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    made = publish(a, words="1")
    share(a, made)
    newer = record(made, finished="2027", run="newer")
    Store(b.home).record_build(newer)
    assert (b.build("toy", "0a") or {})["run"] == "newer"
    Store(b.home).record_build(record(made, finished="2025", run="older"))
    assert (b.build("toy", "0a") or {})["run"] == "r"
    assert (Store(b.home).build("toy", "0a") or {})["run"] == "r", "it is kept at home"


def test_a_record_under_another_name_is_none(tmp_path: Path, url: str, here: Path) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    share(a, publish(a, words="1"))
    path = here / "builds" / "toy" / "0a.json"
    path.rename(path.with_name("0b.json"))
    assert b.build("toy", "0b") is None and b.builds_of("toy") == []


def test_a_blob_that_is_damaged_goes_out_of_the_remote_and_is_named(tmp_path: Path, url: str, here: Path) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    made = publish(a, words="good")
    share(a, made)
    (blob,) = (here / "store" / "blobs" / "toy").iterdir()
    blob.chmod(0o644)
    blob.write_text("evil")
    artifact = b.artifact(made.digest)
    assert artifact is not None
    with pytest.raises(DamagedError, match=r"deep/er/file\.txt of toy was damaged or gone.*built again"):
        b.fetch(artifact)
    assert not blob.exists() and b.artifact_damage(artifact) == ["part missing: words/deep/er/file.txt"]
    assert not artifact["words"].path.exists()


def test_a_change_that_kept_size_and_time_is_found_by_a_full_look_only(tmp_path: Path, url: str, here: Path) -> None:
    a = open_home(tmp_path, "a", url)
    made = publish(a, words="good")
    path = made["words"].path / "deep/er/file.txt"
    path.chmod(0o644)
    path.write_text("evil")
    os.utime(path, (PUBLISHED_TIME, PUBLISHED_TIME))
    assert a.artifact_damage(made) == []
    assert a.artifact_damage(made, full=True) == ["part missing: words/deep/er/file.txt"], "nor is it in the remote"


def test_a_job_whose_file_is_damaged_in_the_remote_is_done_again(tmp_path: Path, url: str, here: Path) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    for key in ("j1", "j2"):
        job(a, key, f"shard of {key}")
    share(a, publish(a, words="1"), "j1", "j2")
    evil = here / "store" / "blobs" / "toy" / a.jobs(["j1"])["j1"].files["shard.txt"].digest
    evil.chmod(0o644)
    evil.write_text(evil.read_text().upper())
    assert b.jobs(["j1", "j2", "j3"]).keys() == {"j2"} and not evil.exists()
    assert not list(b.work.glob("fetch-*")), "nothing half is left"


def test_what_is_gone_at_home_cannot_be_sent_and_is_named_at_the_end(tmp_path: Path, url: str) -> None:
    a = open_home(tmp_path, "a", url)
    made = publish(a, words="1")
    file = made["words"].path / "deep/er/file.txt"
    file.unlink()
    share(a, made)
    with pytest.raises(StoreError, match=rf"{file}: is gone or damaged, so it cannot be sent"):
        a.share_pending()
    (a.root / "artifacts" / f"{made.digest}.json").unlink()
    with pytest.raises(StoreError, match=r"\.json: the manifest is gone, so it cannot be sent"):
        a.share_pending()
    again = publish(a, words="1")
    assert again.digest == made.digest
    a.share_pending()
    assert open_home(tmp_path, "b", url).build("toy", "0a") is not None


def test_the_newest_runs_of_others_come_home(tmp_path: Path, url: str, here: Path) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    for number in range(KNOWN_RUNS + 2):
        name = f"{'ab'[number % 2]}-nano-20260101-{number:06d}-ffff"
        run = {"format": 1, "run": name, "status": "completed", "started": f"2026-01-01T{number:06d}", "stages": []}
        path = a.home / "runs" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(run))
        a.share_run(path)
    (here / "runs" / "stray.txt").touch()
    b.sync_runs()
    found = runs(b.home)
    assert len(found) == KNOWN_RUNS and found[0]["run"] == "a-nano-20260101-000002-ffff"
    kept = b.home / "runs" / f"{found[0]['run']}.json"
    kept.write_text("{}")
    b.sync_runs()
    assert kept.read_text() == "{}", "what a home has is its own"


def test_names_take_the_newest_generation_and_pass_over_strays(tmp_path: Path, url: str) -> None:
    a, b = open_home(tmp_path, "a", url), open_home(tmp_path, "b", url)
    assert a.read_names() is None
    a.write_names(b"one")
    a.write_names(b"two")
    a.remote.write("store/refs/stray.json", b"x")
    assert b.read_names() == b"two" == Store(b.home).read_names()
    b.write_names(b"three")
    with pytest.raises(StoreError, match="changed meanwhile by another worker"):
        a.write_names(b"four")
    assert Store(a.home).read_names() == b"two" and a.read_names() == b"three"
    a.write_names(b"four")
    assert b.read_names() == b"four"
