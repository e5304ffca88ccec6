"""Executors do the same work, name what it has left by address, and leave nobody working when it ends early."""

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import is_alive, wait_until

from storage.canonical import digest_file
from storage.store.artifacts import StoredFile
from storage.store.local import Store
from tasks.engine.context import Execution, Job, Summary
from tasks.engine.executor import Executor, ProcessExecutor, SerialExecutor, ShardWork, Written, executor_of


def double(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    text = inputs["text"].read_text() * 2
    (out / "a.txt").write_text(text)
    (out / "b.txt").write_text("the same for all")
    return {"length": len(text), "process": os.getpid()}


def fail_or_stay(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Two of these: one tells its process and stays, the other fails when it has heard of it."""
    note = Path(config["note"])
    if config["stays"]:
        note.write_text(str(os.getpid()))
        time.sleep(600)
    while not note.exists() or not note.read_text():
        time.sleep(0.01)
    if config["fails"]:
        raise ValueError("no more")
    return {}


def work(home: Path, function: Any, *jobs: Job) -> list[ShardWork]:
    return [ShardWork(job.name, "acting", function, job, home, home / "work" / job.name, {}) for job in jobs]


def texts(folder: Path, *contents: str) -> list[Job]:
    jobs = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.txt"
        path.write_text(content)
        jobs.append(Job(f"s{number}", {}, {"text": StoredFile("t", digest_file(path), len(content), path)}))
    return jobs


@pytest.fixture
def processes() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(2)
    yield executor
    executor.close()


def test_what_workers_return_is_found_in_the_store_by_its_address(
    home: Path, tmp_path: Path, processes: ProcessExecutor
) -> None:
    contents = ("one", "two", "three")
    found: list[dict[str, Written]] = []
    executors: list[Executor] = [SerialExecutor(), processes]
    for executor in executors:
        written = list(executor.run(work(home, double, *texts(tmp_path, *contents))))
        found.append({one.key: one for one in written})
        for one in written:
            assert str(home).encode() not in pickle.dumps(one), "an address is not a path"
            assert not (home / "work" / one.key).exists()
    store = Store(home)
    for number, content in enumerate(contents):
        serial, parallel = (by_key[f"s{number}"] for by_key in found)
        assert serial.files == parallel.files and [file.name for file in serial.files] == ["a.txt", "b.txt"]
        first = serial.files[0]
        assert store.shard("acting", first.name, first.digest, first.bytes).path.read_text() == content * 2
        assert serial.summary["length"] == parallel.summary["length"] == first.bytes
        assert serial.summary["process"] == os.getpid() != parallel.summary["process"]
    assert len({one.files[1].digest for one in found[0].values()}) == 1


def test_an_error_ends_the_others_and_the_next_work_has_new_workers(
    home: Path, tmp_path: Path, processes: ProcessExecutor
) -> None:
    note = tmp_path / "note"
    jobs = [Job(str(stays), {"note": str(note), "stays": stays, "fails": True}) for stays in (True, False)]
    with pytest.raises(ValueError, match="no more"):
        list(processes.run(work(home, fail_or_stay, *jobs)))
    wait_until(lambda: not is_alive(int(note.read_text())), "the worker that would have stayed is ended")
    again = list(processes.run(work(home, double, *texts(tmp_path, "one", "two"))))
    assert sorted(one.key for one in again) == ["s0", "s1"]


def test_who_stops_asking_ends_the_workers(home: Path, tmp_path: Path, processes: ProcessExecutor) -> None:
    note = tmp_path / "note"
    jobs = [Job(str(stays), {"note": str(note), "stays": stays, "fails": False}) for stays in (True, False)]
    results = processes.run(work(home, fail_or_stay, *jobs))
    assert next(results).key == "False"
    results.close()
    wait_until(lambda: not is_alive(int(note.read_text())), "the worker that would have stayed is ended")


def test_no_process_is_started_for_one_worker_or_one_shard(
    home: Path, tmp_path: Path, processes: ProcessExecutor
) -> None:
    assert isinstance(executor_of(Execution(workers=1)), SerialExecutor)
    assert isinstance(executor_of(Execution(workers=3)), ProcessExecutor)
    (alone,) = processes.run(work(home, double, *texts(tmp_path, "one")))
    assert alone.summary["process"] == os.getpid()
    assert list(processes.run([])) == []
