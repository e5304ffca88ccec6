"""A remote: addresses that are refused, what is created once, transfers, and what is said of what goes wrong."""

import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from support import Clock

from storage.errors import ConfigError, StoreError
from storage.store.remote import FIRST_WAIT_SECONDS, Remote, remote_in_force


@pytest.fixture(params=["file", "memory"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    return Remote(f"{request.param}://{tmp_path}/remote")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host/place", r"not a place for a store.*\(known: s3://, s3a://, gs://, gcs://, file://\)$"),
        ("bucket/prefix", "not a place for a store"),
        ("s3://", "not a place for a store"),
        ("s3://key:secret@bucket/prefix", "holds credentials"),
        ("s3://bucket:port/x", "is not a URL"),
        ("gs://bucket/prefix", "not installed"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        Remote(url)
    assert "LLMILL_STORE=" in str(refused.value) and "secret" not in str(refused.value)


def test_objects_are_written_read_listed_and_deleted(remote: Remote) -> None:
    remote.check()
    assert remote.read("a/b.json") is None and remote.names("a") == {}
    remote.write("a/b.json", b"one")
    remote.write("a/b.json", b"two")
    remote.write("a/deeper/c.json", b"three")
    assert remote.read("a/b.json") == b"two" and remote.names("a") == {"b.json": 3}
    assert remote.read_all(["a/b.json", "a/none"]) == {"a/b.json": b"two"}
    remote.delete("a/b.json")
    remote.delete("a/b.json")
    assert remote.read("a/b.json") is None


def test_sizes_are_the_same_asked_one_by_one_and_listed(remote: Remote) -> None:
    for number in range(40):
        remote.write(f"blobs/{number}", b"x" * number)
    few, many = [str(number) for number in range(5)], [str(number) for number in range(60)]
    assert remote.sizes("blobs", few) == {name: int(name) for name in few}
    assert remote.sizes("blobs", many) == {name: int(name) for name in many[:40]}


def test_only_one_of_many_creates_an_object(remote: Remote) -> None:
    won = []

    def create(number: int) -> None:
        if remote.create("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and remote.read("lease") == str(won[0]).encode()


def test_files_go_there_and_come_back_and_the_progress_is_shown(remote: Remote, tmp_path: Path) -> None:
    contents = {f"blobs/{number}": os.urandom(1000 * number) for number in range(1, 20)}
    for key, data in contents.items():
        (tmp_path / key.replace("/", "-")).write_bytes(data)
    progress: list[tuple[int, int]] = []
    remote.upload({key: tmp_path / key.replace("/", "-") for key in contents}, lambda *way: progress.append(way))
    assert progress[0] == (0, 190_000) and progress[-1] == (190_000, 190_000) and len(progress) == 20
    remote.download([(key, tmp_path / f"back-{key[6:]}", 0) for key in [*contents, "blobs/none"]])
    assert {key: (tmp_path / f"back-{key[6:]}").read_bytes() for key in contents} == contents
    assert not (tmp_path / "back-none").exists()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that nobody may write to")
def test_what_may_not_be_written_is_said_with_what_to_do() -> None:
    remote = Remote("file:///sys/kernel/llmill-store")
    remote.check()
    for write in (lambda: remote.write("a", b"x"), lambda: remote.create("a", b"x")):
        with pytest.raises(StoreError, match=r"file:///sys/kernel/llmill-store: cannot be written .* do not allow it"):
            write()


def test_each_operation_that_fails_says_what_could_not_be_done(tmp_path: Path) -> None:
    """There is a file where a folder must be, and a folder where an object must be."""
    remote = Remote(f"file://{tmp_path}")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    said = {}
    for name, action in {
        "read": lambda: remote.read("file/below"),
        "list": lambda: remote.names("file/below"),
        "size": lambda: remote.sizes("file", ["below"]),
        "delete": lambda: remote.delete("folder"),
        "write": lambda: remote.write("file/below", b"x"),
        "create": lambda: remote.create("file/below", b"x"),
        "upload": lambda: remote.upload({"file/below": tmp_path / "file"}),
    }.items():
        try:
            action()
        except StoreError as error:
            said[name] = str(error).partition("cannot ")[2].partition(" (")[0]
    assert said == {
        **dict.fromkeys(("read", "list", "size"), "be read"),
        **dict.fromkeys(("write", "create", "upload"), "be written"),
        "delete": "be changed",
    }


def test_a_busy_store_is_asked_again_after_waits_that_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is drawn from the upper half, so that many who wait do not come back together."""
    clock = Clock()
    monkeypatch.setattr("storage.store.remote.time", clock)
    remote = Remote(f"file://{tmp_path}")
    asked: list[float] = []

    def busy(path: str) -> bytes:
        asked.append(clock.now)
        raise TimeoutError("late")

    monkeypatch.setattr(remote._files, "cat_file", busy)
    with pytest.raises(StoreError, match=r"cannot be read \(late\)"):
        remote.read("a")
    waits = [after - before for before, after in pairwise(asked)]
    assert len(waits) == 4
    for number, wait in enumerate(waits):
        assert FIRST_WAIT_SECONDS * 2**number / 2 <= wait <= FIRST_WAIT_SECONDS * 2**number


def test_after_the_first_error_no_more_transfers_are_begun(tmp_path: Path) -> None:
    remote = Remote(f"file://{tmp_path}/remote")
    files = {"first": tmp_path / "gone"} | {f"{number}": tmp_path / "there" for number in range(300)}
    (tmp_path / "there").write_bytes(bytes(1 << 20))
    with pytest.raises((StoreError, FileNotFoundError)):
        remote.upload(files)
    assert len(remote.names("")) < 300


def test_no_setting_means_no_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMILL_STORE", raising=False)
    assert remote_in_force() is None
