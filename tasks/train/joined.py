"""A machine that trains with others, of which one has the run: `llmill join`.

It comes to the run at `execution.node_address`, takes its ranks of each training, and ends with the run, with its exit
status. It shares the home with the run: there are data, checkpoints and the very code that the run executes.
"""

import hashlib
import importlib.metadata
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.bystander import bystander
from storage.errors import ConfigError, StoreError
from storage.home import home
from tasks.engine.context import Execution
from tasks.train.meeting import FIELD, POLL_SECONDS, address_of, mark_of
from tasks.train.trainer_process import end_trainer, start_trainer
from tasks.train.wire import Wire

MARK_SECONDS, JOB_SECONDS = 10.0, 60.0  # within which a network file system shows what another machine has written
CONNECT_SECONDS = 5.0
AGAIN_SECONDS = 0.5


@bystander
def take_part(execution: Execution, say: Callable[[str], None]) -> int:
    """Train with the run at the address until it is over; returns its exit status, 1 where it was killed.

    Raises ConfigError where no run answers in time, StoreError where this machine does not see its home.
    """
    if execution.nodes == 1:
        raise ConfigError("execution.nodes is 1: set how many machines train together, here as for `llmill run`")
    wire = Wire(_connection(execution))
    if not _waited_for(mark_of(execution).exists, min(MARK_SECONDS, execution.node_wait_seconds)):
        raise StoreError(
            f"{home()}: this is not the home of the run at {execution.node_address}: set LLMILL_HOME to the same "
            "folder of a file system that all machines share"
        )
    wire.send(host=socket.gethostname())
    say(f"this machine is at the service of the run at {execution.node_address}")
    process: subprocess.Popen[bytes] | None = None
    try:
        while True:
            for message in wire.receive():
                if "over" in message:
                    return int(message["over"])
                if "end" in message and process is not None:
                    end_trainer(process)
                if "train" in message:
                    process = _begun(message["train"], wire, say)
            if wire.gone:
                say(f"the run at {execution.node_address} is gone")
                return 1
            if process is not None and process.poll() is not None:
                say(f"training has ended here with status {process.returncode}")
                wire.send(ended=process.returncode)
                process = None
            time.sleep(POLL_SECONDS)
    except BaseException:
        wire.send(leaving=True)
        raise
    finally:
        if process is not None:
            end_trainer(process, at_once=wire.gone)
        wire.close()


@bystander
def _connection(execution: Execution) -> socket.socket:
    deadline = time.monotonic() + execution.node_wait_seconds
    while True:
        try:
            return socket.create_connection(address_of(execution), CONNECT_SECONDS)
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{FIELD}={execution.node_address}: no run has answered within {execution.node_wait_seconds:g} s "
                    f"(execution.node_wait_seconds): {error}. Start `llmill run` with the same recipe and settings on "
                    "the machine of this address"
                ) from None
        time.sleep(AGAIN_SECONDS)


@bystander
def _begun(train: dict[str, Any], wire: Wire, say: Callable[[str], None]) -> "subprocess.Popen[bytes] | None":
    """The launcher of this machine's ranks; the run is told where there can be none."""
    from model.job import TrainingJob

    job_file, number = Path(train["job"]), int(train["node"])
    code = Path(train["code"]) if train["code"] else None
    refused = _refusal(job_file, str(train["digest"]), code, train["libraries"])
    if refused:
        say(refused)
        wire.send(refused=refused)
        return None
    job = TrainingJob.read(job_file)
    assert job.node is not None, "the run has several machines"
    node = replace(job.node, number=number)
    job = replace(job, node=node, parent_pid=os.getpid())
    job.write(own := job_file.with_stem(f"{job_file.stem}-{number}"))
    say(f"training in {job_file.parent.parent.name}: machine {1 + number} of {node.count}")
    with job_file.with_name(f"trainer-{number}.log").open("wb") as log:
        return start_trainer(job, own, log, code=code)


@bystander
def _refusal(job_file: Path, digest: str, code: Path | None, libraries: dict[str, str]) -> str:
    """Why this machine cannot train what the run says; empty where it can."""

    def is_there() -> bool:
        return job_file.is_file() and hashlib.sha256(job_file.read_bytes()).hexdigest() == digest

    if not job_file.is_relative_to(home() / "work") or (code and not code.is_relative_to(home() / "cache" / "code")):
        return f"the run's home is not {home()}: give both the same LLMILL_HOME, under the same path"
    if not _waited_for(is_there, JOB_SECONDS):
        return f"{job_file} is not there as the run has written it: LLMILL_HOME is no file system that both share"
    for name, theirs in libraries.items():
        if (ours := importlib.metadata.version(name)).partition("+")[0] != theirs.partition("+")[0]:
            return f"it has {name} {ours}, the run {theirs}: install the same"
    return ""


@bystander
def _waited_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
