"""A run that trains on several machines: here two, both this one, each with folders and process groups of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    PATIENCE_SECONDS,
    Command,
    digests,
    listening_elsewhere,
    living_processes,
    llmill,
    llmill_command,
    report_of,
    unwrapped,
    wait_until,
)

ENDING_SECONDS = 15  # within which all have ended after one was killed
SETTINGS = {
    "pretrain.processes": 2,
    "pretrain.threads": 1,
    "pretrain.steps": 120,
    "pretrain.tokens": "null",
    "execution.checkpoint_interval": 10,
    "execution.node_wait_seconds": 120,
    "execution.silence_seconds": 30,
    "execution.retries": 5,
}


def arguments(command: str, *more: str) -> list[str]:
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    given = ["--plain", "--json", "--to", "pretrain"] if command == "run" else []
    return [command, "smoke", *given, *(word for one in (*settings, *more) for word in ("--set", one))]


@pytest.fixture(scope="module")
def undisturbed(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes of one machine make."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    return report_of(llmill(*arguments("run"), home=home))


class Machines:
    """Commands on two machines that share a home."""

    def __init__(self, folder: Path, smoke_home: Path) -> None:
        self.folder, self.home = folder, folder / "home Ü"
        shutil.copytree(smoke_home, self.home, symlinks=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, command: str) -> "subprocess.Popen[str]":
        place = self.folder / f"{command}-{len(self.started)}"
        place.mkdir()
        nodes = ("execution.nodes=2", f"execution.node_address={self.address}")
        with (place / "out").open("w") as out, (place / "err").open("w") as err:
            process = subprocess.Popen(
                [*llmill_command(), *arguments(command, *nodes)],
                cwd=place,
                env={**os.environ, "LLMILL_HOME": str(self.home)},
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def said(self, process: "subprocess.Popen[str]", file: str = "err") -> str:
        (place,) = self.folder.glob(f"*-{self.started.index(process)}")
        return (place / file).read_text()

    def says(self, what: str, process: "subprocess.Popen[str]") -> None:
        """Wait until a process has said something."""
        wait_until(lambda: what in unwrapped(self.said(process)), f"it says: {what}", process)

    def report(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        status = process.wait(PATIENCE_SECONDS)
        said = self.said(process), self.said(process, "out")
        return report_of(subprocess.CompletedProcess([], status, said[1], said[0]))

    def of_training(self, program: str, job: str) -> int:
        """The process of a trainer or a launcher, `job-1.json` being that of the machine that has come."""
        living = living_processes(self.home).items()
        (found,) = [one for one, command in living if program in command and f"/{job} " in f"{command} "]
        return found

    def step(self) -> int:
        curves = self.home.glob("work/pretrain-*/keep/metrics.jsonl")
        return max((path.read_bytes().count(b"\n") for path in curves), default=0)

    def wait_for_steps(self, count: int, process: "subprocess.Popen[str]") -> None:
        after = self.step() + count
        wait_until(lambda: self.step() >= after, f"{count} more steps", process)


@pytest.fixture
def machines(smoke: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path, smoke[0])
    yield made
    for process in made.started:
        process.kill()
        process.wait()
    wait_until(lambda: not living_processes(made.home), "nothing is left on either machine")


@pytest.mark.slow
def test_two_machines_make_what_one_makes_whoever_else_calls(machines: Machines, undisturbed: dict[str, Any]) -> None:
    """A machine that hangs is found and the attempt made again; one that is lost is replaced by another."""
    joined, run = machines.start("join"), machines.start("run")
    host, _, port = machines.address.rpartition(":")
    wait_until(lambda: machines.home.joinpath("cache/nodes").is_dir(), "the run listens", run)
    strangers = [socket.create_connection((host, int(port))) for _ in range(2)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    machines.wait_for_steps(10, run)
    living = living_processes(machines.home)
    assert len({os.getpgid(process) for process in living if "model.launcher" in living[process]}) == 2
    assert listening_elsewhere(set(living)) == []
    for stranger in strangers:
        stranger.close()

    os.kill(machines.of_training("model.trainer", "job-1.json"), signal.SIGSTOP)
    machines.says("no sign of life of rank", run)  # the other waits for it, and is as silent
    machines.wait_for_steps(10, run)
    joined.kill()
    machines.says("`llmill join` was killed", run)
    again = machines.start("join")
    assert digests(machines.report(run)) == digests(undisturbed)
    assert again.wait(PATIENCE_SECONDS) == 0, machines.said(again)
    assert "machine 2 of 2" in machines.said(again)
    assert not list(machines.home.glob("cache/nodes/*"))


@pytest.mark.slow
def test_killed_on_either_machine_both_end_and_the_next_run_goes_on(
    machines: Machines, undisturbed: dict[str, Any]
) -> None:
    for victim in ("rank there", "launcher here", "run", "launcher there"):
        joined, run = machines.start("join"), machines.start("run")
        machines.wait_for_steps(5, run)
        programs = {"rank": "model.trainer", "launcher": "model.launcher"}
        program, _, place = victim.partition(" ")
        job = "job-1.json" if place == "there" else "job.json"
        os.kill(run.pid if victim == "run" else machines.of_training(programs[program], job), signal.SIGKILL)
        killed = time.monotonic()
        statuses = [process.wait(PATIENCE_SECONDS) for process in (run, joined)]
        wait_until(lambda: not living_processes(machines.home), "nothing is left of it")
        assert time.monotonic() - killed < ENDING_SECONDS, victim
        assert statuses == ([-signal.SIGKILL, 1] if victim == "run" else [1, 1]), (victim, machines.said(joined))
    joined, run = machines.start("join"), machines.start("run")
    machines.wait_for_steps(5, run)
    run.terminate()
    assert [run.wait(PATIENCE_SECONDS), joined.wait(PATIENCE_SECONDS)] == [130, 130]
    joined, run = machines.start("join"), machines.start("run")
    assert digests(machines.report(run)) == digests(undisturbed)
    assert joined.wait(PATIENCE_SECONDS) == 0


def test_a_machine_that_never_comes_is_named_by_the_address_it_should_have_come_to(
    smoke_home: Path, command: Command
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    nodes = ("execution.nodes=2", f"execution.node_address={address}", "execution.node_wait_seconds=1")
    status, _, said = command(*arguments("run", *nodes), home=smoke_home)
    assert (
        status == 2
        and f"execution.node_address={address}" in said.replace("\n", "")
        and "0 of 1 other" in unwrapped(said)
    )
    status, _, said = command(*arguments("join", *nodes), home=smoke_home)
    assert status == 2 and address in said and "llmill run" in unwrapped(said)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["execution.nodes=2"], "several machines need both"),
        (["execution.node_address=10.0.0.5:29500"], "several machines need both"),
        (["execution.nodes=2", "execution.node_address=0.0.0.0:29500"], "the one address"),
        (["execution.nodes=2", "execution.node_address=nowhere"], "node_address"),
        (["execution.nodes=2", "execution.node_address=here:0"], "is no port"),
        (["execution.nodes=2", "execution.node_address=here:29500", "pretrain.processes=3"], "shared out equally"),
        (["execution.nodes=2", "execution.node_address=here:29500", "pretrain.processes=1"], "set pretrain.processes"),
        (["execution.nodes=2", "execution.node_address=198.51.100.7:29500"], "is not this machine"),
        (["execution.nodes=2", "execution.node_address=no.such.invalid:29500"], "no address that this machine knows"),
    ],
)
def test_what_several_machines_cannot_do_is_said_at_once(
    settings: list[str], message: str, smoke_home: Path, command: Command
) -> None:
    status, _, said = command(*arguments("run", *settings), home=smoke_home)
    assert status == 2 and message in unwrapped(said), said


def test_a_machine_that_does_not_see_the_home_of_the_run_says_so(home: Path, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"execution.node_address=127.0.0.1:{other.getsockname()[1]}"
        nodes = ("execution.nodes=2", address, "execution.node_wait_seconds=1")
        status, _, said = command(*arguments("join", *nodes), home=home)
    assert status == 2 and str(home) in said.replace("\n", "") and "set LLMILL_HOME to the same" in unwrapped(said)
