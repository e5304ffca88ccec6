"""Data stages on Ray: the results of processes, from a cluster that keeps to the home and the loopback and is gone
when its run is; a worker that dies costs its shard alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support import descendants, is_alive, listening_elsewhere, wait_until
from test_executor import double, texts, work

from storage.errors import ConfigError, DataError
from tasks.engine.context import Execution, Job, Summary
from tasks.engine.executor import SerialExecutor, executor_of
from tasks.engine.ray_executor import RayExecutor


def die_while_told(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Notes each attempt; writes half a file and dies by kill -9 in as many attempts as it is told."""
    half = out / f"half-{time.monotonic_ns()}.txt"
    half.write_text(config["name"])
    note = Path(config["notes"]) / f"{config['name']}-{time.monotonic_ns()}"
    note.touch()
    attempts = len(list(note.parent.glob(f"{config['name']}-*")))
    if attempts <= config["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    half.rename(out / "whole.txt")
    return {"worker": os.getpid()}


def refuse(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    raise DataError(f"{config['file']}, line 7: not a number")


def stay(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Is at work until it is killed."""
    Path(config["note"]).touch()
    while True:
        pass


def jobs_that_die(notes: Path, *deaths: int) -> list[Job]:
    notes.mkdir()
    return [
        Job(name, {"name": name, "notes": str(notes), "deaths": count})
        for name, count in zip(("s0", "s1", "s2", "s3"), deaths, strict=False)
    ]


def cluster() -> dict[int, str]:
    """The living processes that this one has started, but for Python's own helper."""
    every = descendants(os.getpid())
    return {process: command for process, command in every.items() if "resource_tracker" not in command}


@pytest.fixture
def ray() -> Iterator[RayExecutor]:
    executor = RayExecutor(2, None)
    yield executor
    executor.close()


# Settings ---------------------------------------------------------------------------------------------------------


def test_without_the_package_a_run_says_what_to_install(
    home: Path, tmp_path: Path, ray: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'llmill\[ray\]'"):
        list(ray.run(work(home, double, *texts(tmp_path, "one", "two"))))


def test_an_address_where_nobody_answers_is_named_within_seconds(home: Path, tmp_path: Path) -> None:
    pieces = work(home, double, *texts(tmp_path, "one", "two"))
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "127.0.0.1:99999"):
        started = time.monotonic()
        with pytest.raises(ConfigError, match=rf"execution.ray_address={address}: nothing answers there"):
            list(RayExecutor(2, address).run(pieces))
        assert time.monotonic() - started < 30


def test_the_settings_choose_the_executor_and_what_is_no_address_is_refused() -> None:
    assert isinstance(executor_of(Execution(executor="ray", workers=1)), RayExecutor)
    assert isinstance(executor_of(Execution(workers=1)), SerialExecutor)
    for address in ("auto", "head:6379", "10.0.0.1:6379", "ray://head.cluster:10001", "[::1]:6379"):
        assert Execution(executor="ray", ray_address=address).ray_address == address
    for address in ("", "head", "http://head:8265", "head:port", "a b:1", "local"):
        with pytest.raises(ValidationError, match="ray_address"):
            Execution(executor="ray", ray_address=address)
    with pytest.raises(ValidationError, match="executor is not ray"):
        Execution(ray_address="auto")


# On a cluster -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_shard_alone(home: Path, tmp_path: Path, ray: RayExecutor) -> None:
    notes = tmp_path / "notes"
    written = list(ray.run(work(home, die_while_told, *jobs_that_die(notes, 0, 2, 0, 0))))
    assert {one.key: one.attempts for one in written} == {"s0": 1, "s1": 3, "s2": 1, "s3": 1}
    assert {file.name for one in written for file in one.files} == {"whole.txt"}, "half a file is nobody's"
    assert len(list(notes.iterdir())) == 6, "what was done stays done"

    again = list(ray.run(work(home, double, *texts(tmp_path, "one", "two", "three"))))
    expected = list(SerialExecutor().run(work(home, double, *texts(tmp_path, "one", "two", "three"))))
    assert {one.key: one.files for one in again} == {one.key: one.files for one in expected}

    processes = cluster()
    assert sum(command.startswith("ray::IDLE") for command in processes.values()) >= 2, "the workers are looked at, too"
    assert listening_elsewhere(set(processes)) == []
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"acting: shard s1 was given up: .* has died 3 times"):
        list(ray.run(work(home, die_while_told, *jobs_that_die(tmp_path / "more", 0, 99))))
    wait_until(lambda: not any(map(is_alive, processes)), "the cluster is ended")
    assert time.monotonic() - started < 60
    assert [path.name for path in (home / "cache" / "ray").iterdir()] == ["lock"]


RUN = """
import sys
from pathlib import Path
from test_ray_executor import Job, RayExecutor, stay, work
home, notes = map(Path, sys.argv[1:])
list(RayExecutor(2, None).run(work(home, stay, *(Job(name, {"note": str(notes / name)}) for name in ("a", "b")))))
"""


@pytest.mark.slow
def test_a_kill_of_the_run_ends_workers_that_are_at_work(home: Path, tmp_path: Path, ray: RayExecutor) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen([sys.executable, "-c", RUN, str(home), str(notes)], env=environment)
    wait_until(lambda: len(list(notes.iterdir())) == 2, "both workers are at work", run)
    processes = descendants(run.pid)
    run.kill()
    killed = time.monotonic()
    run.wait()
    wait_until(lambda: not any(map(is_alive, processes)), "no process of the run is left")
    assert time.monotonic() - killed < 15
    (left,) = (home / "cache" / "ray").glob("session-*")
    list(ray.run(work(home, double, *texts(tmp_path, "one", "two"))))
    assert not left.exists(), "what the dead have left is removed by the next"


@pytest.mark.slow
def test_an_error_arrives_as_it_was_raised(home: Path, tmp_path: Path, ray: RayExecutor) -> None:
    jobs = [Job(name, {"file": f"{name}.csv"}) for name in ("a", "b")]
    with pytest.raises(DataError) as caught:
        list(ray.run(work(home, refuse, *jobs)))
    assert str(caught.value) in ("a.csv, line 7: not a number", "b.csv, line 7: not a number")
