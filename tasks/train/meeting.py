"""Several machines that train one model, as the run sees them: who has come, what each is told, how it ended there.

The run listens at `execution.node_address` from its beginning to its end; each other machine runs `llmill join`
(joined.py), comes there and waits. What they train with is on a file system that all of them share, the home: here they
are only told that it begins. Ranks meet at a port of their own, of the same address; the launcher of this machine opens
it to them. A machine whose connection is lost is gone, and the attempt is made again with those that are there then.
"""

import errno
import hashlib
import importlib.metadata
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from storage.bystander import bystander
from storage.errors import ConfigError, exit_status
from storage.files import write_json
from storage.home import home
from storage.snapshot import VARIABLE as CODE
from tasks.engine.context import Context, Execution
from tasks.train.wire import Wire, watch_connection

if TYPE_CHECKING:
    from model.job import TrainingJob

FIELD = "execution.node_address"
POLL_SECONDS = 0.1
ENDING_SECONDS = 14.0  # for the other machines to end their ranks
NOTICING_SECONDS = 1.0  # after which ranks here have noticed by themselves that others have failed
MOST_SILENT = 64  # connections of whoever has not said who it is

_open: dict[str, "Meeting"] = {}  # of this process, by address


@bystander
def address_of(execution: Execution) -> tuple[str, int]:
    """Host and port at which the machines meet."""
    host, _, port = (execution.node_address or "").rpartition(":")
    return host.strip("[]"), int(port)


@bystander
def mark_of(execution: Execution) -> Path:
    """The file that says to other machines that they see the home of the run at this address."""
    name = "".join(letter if letter.isalnum() else "-" for letter in str(execution.node_address))
    return home() / "cache" / "nodes" / f"{name}.json"


@bystander
class Other:
    """Another machine: what it has said."""

    def __init__(self, connection: socket.socket) -> None:
        self.wire = Wire(connection)
        self.host = self.refused = ""
        self.training = self.leaving = False
        self.status: int | None = None  # of its ranks, when they have ended

    def read(self) -> None:
        for message in self.wire.receive():
            self.host = str(message.get("host", self.host))[:300]
            self.refused = str(message.get("refused", self.refused))
            self.leaving = bool(message.get("leaving", self.leaving))
            if isinstance(status := message.get("ended"), int):
                self.training, self.status = False, status

    @property
    def trains(self) -> bool:
        return self.training and not self.wire.gone


@bystander
class Meeting:
    """Where the other machines come to."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._others: list[Other] = []
        self._listener = listen(*address_of(execution))
        self._listener.setblocking(False)
        watch_connection(self._listener)
        self._mark = mark_of(execution)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._mark, {"host": socket.gethostname(), "process": os.getpid()})

    def gather(self, count: int, here: Callable[[int], None]) -> list[Other]:
        """So many of the other machines; ConfigError where they do not come in time. `here` is told how many came."""
        deadline = time.monotonic() + self._execution.node_wait_seconds
        while len(found := self._who_is_there()) < count:
            here(len(found))
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{FIELD}={self._execution.node_address}: {len(found)} of {count} other machines have come within "
                    f"{self._execution.node_wait_seconds:g} s (execution.node_wait_seconds): start `llmill join` with "
                    "the same recipe and settings on each of them, and see that they reach this address"
                )
            time.sleep(POLL_SECONDS)
        return found[:count]

    def _who_is_there(self) -> list[Other]:
        with suppress(BlockingIOError, ConnectionError):
            while True:
                self._others.append(Other(self._listener.accept()[0]))
        for other in self._others:
            other.read()
        silent = [other for other in self._others if not other.host]
        left = {*silent[:-MOST_SILENT], *(other for other in self._others if other.wire.gone or other.leaving)}
        for other in left:
            other.wire.close()
        self._others = [other for other in self._others if other not in left]
        return [other for other in self._others if other.host]

    def close(self, status: int) -> None:
        """Tell all who wait that the run is over, with this exit status."""
        with suppress(OSError):
            self._who_is_there()
        self._listener.close()
        for other in self._others:
            other.wire.send(over=status)
            other.wire.close()
        self._mark.unlink(missing_ok=True)


@bystander
@contextmanager
def meeting(execution: Execution) -> Iterator[Callable[[int], None]]:
    """Other machines may come, where there are to be any; call what is given with the exit status of the run."""
    address = execution.node_address
    if address is None or address in _open:  # a run within another
        yield lambda status: None
        return
    _open[address], statuses = Meeting(execution), [0]
    try:
        yield statuses.append
    except BaseException as error:
        statuses.append(exit_status(error))
        raise
    finally:
        _open.pop(address).close(statuses[-1])


@bystander
class Alone:
    """The training of a machine that trains without others."""

    descriptors: tuple[int, ...] = ()
    lost = False

    def __init__(self, job: "TrainingJob") -> None:
        self.job = job

    def begin(self, job_file: Path) -> None:
        """Have the other machines begin with the job of a file."""

    def is_over(self) -> bool:
        """Whether it has failed elsewhere, and nobody here may notice. ConnectionError where a machine has left or is
        gone: after that an attempt is made again."""
        return False

    def end(self) -> None:
        """Have the other machines save and end."""

    def close(self) -> None:
        """Wait until the other machines have ended."""

    def outcome(self, status: int, log: Path) -> tuple[int, Path]:
        """The exit status that says most of all machines', given ours, and the log of that one."""
        return status, log


@bystander
class Together(Alone):
    """A training of several machines, this one the first."""

    def __init__(self, job: "TrainingJob", execution: Execution, others: list[Other]) -> None:
        from model.job import Node

        self._others, self._noticed = others, 0.0
        host, _ = address_of(execution)
        self._ranks = listen(host, 0)
        self.descriptors = (self._ranks.fileno(),)
        place = f"[{host}]" if ":" in host else host
        super().__init__(replace(job, node=Node(0, 1 + len(others), f"{place}:{self._ranks.getsockname()[1]}")))

    def begin(self, job_file: Path) -> None:
        digest = hashlib.sha256(job_file.read_bytes()).hexdigest()
        libraries = {name: importlib.metadata.version(name) for name in ("llmill", "torch")}
        for number, other in enumerate(self._others, 1):
            other.training, other.status = True, None
            train = {"job": str(job_file), "digest": digest, "node": number, "code": os.environ.get(CODE)}
            other.wire.send(train=train | {"libraries": libraries})

    def is_over(self) -> bool:
        for other in self._others:
            other.read()
            if other.refused:
                raise ConfigError(f"the machine {other.host} cannot train with this one: {other.refused}")
            if other.leaving:
                raise ConnectionError(f"the machine {other.host} leaves the training")
            if other.training and other.wire.gone:
                self.lost = True
                raise ConnectionError(f"the machine {other.host} is gone, or its `llmill join` was killed")
        if any(other.status for other in self._others):
            self._noticed = self._noticed or time.monotonic()
            return time.monotonic() > self._noticed + NOTICING_SECONDS
        return False

    def end(self) -> None:
        for other in self._others:
            if other.trains:
                other.wire.send(end=True)

    def close(self) -> None:
        self._ranks.close()
        deadline = time.monotonic() + ENDING_SECONDS
        while any(other.trains for other in self._others) and time.monotonic() < deadline:
            for other in self._others:
                other.read()
            time.sleep(POLL_SECONDS)
        for other in self._others:
            if other.trains:
                other.wire.close()  # whereupon it kills them

    def outcome(self, status: int, log: Path) -> tuple[int, Path]:
        logs = [log, *(log.with_stem(f"{log.stem}-{number}") for number in range(1, 1 + len(self._others)))]
        statuses = [status, *(other.status or 0 for other in self._others)]
        return max(zip(statuses, logs, strict=True), key=lambda one: _says(one[0]))


@bystander
@contextmanager
def together(job: "TrainingJob", context: Context) -> Iterator[Alone]:
    """The training of a job on all machines that the run has; at the end of the block all of them have ended."""
    execution = context.execution
    if execution.nodes == 1 or job.ranks == 1:
        yield Alone(job)
        return
    with meeting(execution):
        count = execution.nodes - 1
        others = _open[str(execution.node_address)].gather(
            count, lambda here: context.progress(here, count, "other machines have come")
        )
        training = Together(job, execution, others)
        try:
            yield training
        finally:
            training.close()


@bystander
def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at one address of this machine; ConfigError that names it where it cannot."""
    where = f"{FIELD}: {host}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where} is no address that this machine knows ({error})") from None
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if found.is_loopback and not _means_loopback(host):
        raise ConfigError(f"{where} is {found} here, where no other machine comes: write the address that they see")
    try:
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"{where} ({found}) is not this machine: run the recipe on the one that it is") from None
        raise ConfigError(f"{where}, port {port}: this machine cannot listen there: {error.strerror}") from None


def _means_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost", "ip6-loopback")


def _says(status: int) -> int:
    """How much an exit status says of why a training ended: least where it was made to, or another's end ended it."""
    return {0: 0, 143: 1, -15: 1, 1: 2}.get(status, 3)
