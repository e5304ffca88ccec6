"""Runs whose data stages work on Ray: by one setting, with the digests of processes, and gone when they end."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    descendants,
    digests,
    is_alive,
    llmill,
    llmill_command,
    outcomes,
    processes_of,
    report_of,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray: pip install 'llmill[ray]'"),
]

ON_RAY = ["run", "smoke", "--plain", "--to", "filter", "--set", "execution.executor=ray"]


def of_data(report: dict[str, Any]) -> dict[str, str]:
    return {name: digest for name, digest in digests(report).items() if name.startswith(("dedupl", "filter", "coll"))}


def workers_of(run: int) -> list[str]:
    """Ray's workers, from their start on, when the death of the others means nothing to them for a minute."""
    every = [one.split() for one in descendants(run).values() if "default_worker.py" in one]
    return [words[0] for words in every if Path(words[0]).name.startswith("python")]


def session_folders(home: Path) -> list[Path]:
    return list((home / "cache" / "ray").glob("session-*"))


def test_equal_digests_and_nothing_outside_a_home_of_a_long_name(
    smoke: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    home = tmp_path / "/".join(["a-folder-whose-name-no-socket-can-bear"] * 4) / "home"
    elsewhere = [tmp_path / "user", tmp_path / "temporary"]
    for folder in elsewhere:
        folder.mkdir()
    environment = {
        **{"HOME": str(elsewhere[0]), "TMPDIR": str(elsewhere[1])},
        **{"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "RAY_ADDRESS": "127.0.0.1:9"},
    }
    before = [Path("/tmp/ray").exists(), *Path("/dev/shm").glob("*plasma*")]
    run = llmill(*ON_RAY, "--json", home=home, environment=environment)
    assert digests(report_of(run)) == of_data(smoke[1])
    assert [list(folder.iterdir()) for folder in elsewhere] == [[], []]
    assert [Path("/tmp/ray").exists(), *Path("/dev/shm").glob("*plasma*")] == before
    assert [path.name for path in (home / "cache" / "ray").iterdir()] == ["lock"], "not without Ray, nor left behind"
    assert not any(word in run.stderr for word in ("ray", "INFO", "WARNING")), run.stderr
    assert not processes_of(home)


def test_who_works_is_no_part_of_a_key(smoke_home: Path) -> None:
    report = report_of(llmill(*ON_RAY, "--json", home=smoke_home))
    assert set(outcomes(report).values()) == {"reused"}
    assert not (smoke_home / "cache" / "ray").exists(), "what is not needed is not started"


def test_an_interrupted_run_takes_its_cluster_along(home: Path) -> None:
    process = subprocess.Popen(
        [*llmill_command(), *ON_RAY],
        env={**os.environ, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: workers_of(process.pid), "Ray's workers are there", process)
    processes = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    signalled = time.monotonic()
    assert process.wait() == 130
    wait_until(lambda: not any(map(is_alive, processes)), "no process of the run is left")
    assert time.monotonic() - signalled < 15
    assert session_folders(home) == []


def test_an_address_where_nobody_answers_ends_the_run_with_its_name(home: Path) -> None:
    run = llmill(*ON_RAY, "--set", "execution.ray_address=127.0.0.1:9", home=home)
    assert run.returncode == 2, run.stderr
    assert "execution.ray_address=127.0.0.1:9: nothing answers there" in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster that was there before the run, as an operator starts it, guarded by a token."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short name, for its sockets
    options = ["--head", "--block", f"--port={port}", "--num-cpus=2", f"--temp-dir={folder}", "--disable-usage-stats"]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", *options, "--object-store-memory=80000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if "ray start --address=" in line), "")
        yield said.partition("--address=")[2].strip(" '\n")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_cluster_that_is_there_does_the_work_and_stays(
    smoke: tuple[Path, dict[str, Any]], cluster: str, home: Path, tmp_path: Path
) -> None:
    assert cluster, "the cluster has started"
    address = ["--set", f"execution.ray_address={cluster}"]
    report = report_of(llmill(*ON_RAY, *address, "--json", home=home, cwd=tmp_path))
    assert digests(report) == of_data(smoke[1])
    assert session_folders(home) == []
    with socket.create_connection((cluster.rpartition(":")[0], int(cluster.rpartition(":")[2])), 5):
        pass
