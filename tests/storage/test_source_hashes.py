"""The cache of file hashes saves reading and never lies."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import wait_until

import storage.source_hashes
from storage.canonical import digest_file
from storage.errors import DataError
from storage.source_hashes import hash_files

LONG_AGO = time.time() - 3600


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(storage.source_hashes, "RACY_SECONDS", -1.0)  # files of a test are young
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []

    def watched(path: Path) -> str:
        names.append(path.name)
        return digest_file(path)

    monkeypatch.setattr(storage.source_hashes, "digest_file", watched)
    return names


def test_a_file_that_has_not_moved_is_not_read_again(tmp_path: Path, cache: Path, read: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = hash_files([("a.txt", path)], cache)
    assert hash_files([("a.txt", path)], cache) == first
    assert read == ["a.txt"]
    assert (first[0].digest, first[0].bytes) == (digest_file(path), 3)


def test_a_touch_changes_no_digest_and_an_edit_does(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    [before] = hash_files([("a.txt", path)], cache)
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert hash_files([("a.txt", path)], cache) == [before]
    path.write_text("two")
    assert hash_files([("a.txt", path)], cache)[0].digest != before.digest


def test_an_edit_with_the_old_size_and_time_is_seen(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    [before] = hash_files([("a.txt", path)], cache)
    changed = path.stat().st_ctime_ns
    path.write_text("two")

    def has_ticked() -> bool:
        os.utime(path, (LONG_AGO, LONG_AGO))
        return path.stat().st_ctime_ns > changed

    wait_until(has_ticked, "a tick")
    assert hash_files([("a.txt", path)], cache)[0].digest != before.digest


@pytest.mark.parametrize(("age_seconds", "readings"), [(1.5, 2), (2.5, 1)])
def test_a_file_written_a_moment_ago_is_not_remembered(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, age_seconds: float, readings: int
) -> None:
    """It may be written again within the tick of its times."""
    path = tmp_path / "a.txt"
    path.write_text("one")
    now = path.stat().st_ctime + age_seconds
    monkeypatch.setattr(storage.source_hashes, "time", SimpleNamespace(time=lambda: now))
    for _ in range(2):
        hash_files([("a.txt", path)], tmp_path / "hashes.sqlite")
    assert read == ["a.txt"] * readings


def test_a_damaged_cache_costs_a_reading_only(tmp_path: Path, cache: Path, read: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = hash_files([("a.txt", path)], cache)
    cache.write_bytes(b"no database, only bytes" * 200)
    assert hash_files([("a.txt", path)], cache) == before
    assert hash_files([("a.txt", path)], cache) == before
    assert read == ["a.txt", "a.txt"]


def test_the_cache_is_made_with_the_folders_above_it(tmp_path: Path, cache: Path, read: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    for _ in range(2):
        hash_files([("a.txt", path)], tmp_path / "deep" / "er" / "hashes.sqlite")
    assert read == ["a.txt"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/gone: cannot be read \(No such file or directory\)\. Fix"):
        hash_files([("gone", tmp_path / "gone")], cache)
    with pytest.raises(DataError, match=rf"{tmp_path}: cannot be read \(Is a directory\)"):
        hash_files([("folder", tmp_path)], cache)
