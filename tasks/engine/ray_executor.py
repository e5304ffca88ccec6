"""Shards' work on Ray: on a cluster of the run's own on this machine, or on one that is there.

The run's process never imports Ray, which takes over the signals, limits and environment of the process that does. A
child of it, the driver (ray_driver.py), does so and answers over a pipe. All that serves a cluster of the run's own is
started by the driver and ended with it: by the run, or by the driver when the run is gone, however it died.

All that Ray writes lies in `cache/ray/session-*/` of the home, a folder for each driver, which goes with it; those of
runs that were killed are removed when the next driver starts.
"""

import importlib.util
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from storage.errors import ConfigError
from storage.files import locked, remove_tree
from storage.processes import end_descendants
from tasks.engine.executor import ShardWork, Written, carry_out
from tasks.engine.ray_driver import Failed, Session, drive

FIELD = "execution.ray_address"
CONNECT_SECONDS = 5.0  # for an answer at the cluster's address
START_SECONDS = 180.0  # for a cluster of the run's own; an idle machine needs some five
JOIN_SECONDS = 40.0  # for one that is there; Ray gives up on one that it is a client of after 30
LEAVE_SECONDS = 5.0  # for good-byes to a cluster that goes on
LOG_TAIL = 600  # characters of the driver's log, in an error


class RayExecutor:
    """Tasks of Ray, so many at a time; the cluster is started or joined when it is needed first."""

    def __init__(self, workers: int, address: str | None) -> None:
        self._workers, self._address = workers, address
        self._driver: _Driver | None = None

    def run(self, work: Sequence[ShardWork]) -> Generator[Written, None, None]:
        if len(work) <= 1:  # Ray would take longer to start
            yield from map(carry_out, work)
            return
        try:
            yield from self._started(work[0].home).carry_out(work)
        except BaseException:
            self._end(0.0)  # what its tasks are at would be thrown away, and may never end
            raise

    def close(self) -> None:
        self._end(0.0 if self._address is None else LEAVE_SECONDS)

    def _started(self, home: Path) -> "_Driver":
        if self._driver is None:
            if importlib.util.find_spec("ray") is None:
                raise ConfigError(
                    "execution.executor=ray needs the package ray: pip install 'llmill[ray]', or set "
                    "execution.executor=processes"
                )
            if self._address not in (None, "auto"):
                _check_that_somebody_answers(str(self._address))
            self._driver = _Driver(home, self._workers, self._address)
            self._driver.wait_for_start()
        return self._driver

    def _end(self, patience: float) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.end(patience)


class _Driver:
    """The child that talks to Ray, and its folder."""

    def __init__(self, home: Path, workers: int, address: str | None) -> None:
        self._address, self._exit = address, ExitStack()
        self._folder = self._exit.enter_context(_session_folder(home))
        session = Session(self._folder, workers, address, Path.cwd())
        ours, theirs = get_context("spawn").Pipe()
        self._pipe = self._exit.enter_context(ours)
        self._process = get_context("spawn").Process(target=drive, args=(theirs, os.getpid(), session), daemon=True)
        with theirs:
            self._process.start()

    def wait_for_start(self) -> None:
        """Raises ConfigError where there is no cluster to be had."""
        seconds = START_SECONDS if self._address is None else JOIN_SECONDS
        if not self._pipe.poll(seconds):
            where = "on this machine" if self._address is None else f"at {FIELD}={self._address}"
            raise ConfigError(f"{where}: no Ray cluster has answered within {seconds:.0f} seconds. {self._log()}")
        self._receive()

    def carry_out(self, work: Sequence[ShardWork]) -> Iterator[Written]:
        self._pipe.send(work)
        for _ in work:
            yield self._receive()

    def end(self, patience: float) -> None:
        """Leave the cluster, or end it at once where there is no patience; nothing of the driver's goes on."""
        self._pipe.close()
        self._process.join(patience)
        assert self._process.pid is not None, "it was started"
        if self._process.is_alive():
            end_descendants(self._process.pid)  # workers leave the group, and those that just start notice nothing
        with suppress(ProcessLookupError):  # it did not get so far as to lead a group, or all of it has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._exit.close()

    def _receive(self) -> Any:
        """What the driver sends; an error is raised."""
        try:
            sent = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(LEAVE_SECONDS)
            status = self._process.exitcode
            raise ConnectionError(f"the process that talks to Ray has ended (status {status}). {self._log()}") from None
        if isinstance(sent, Failed):
            sent.error.add_note(sent.trace)
            raise sent.error
        return sent

    def _log(self) -> str:
        with suppress(OSError):
            if text := (self._folder / "driver.log").read_text(errors="replace")[-LOG_TAIL:].strip():
                return f"The end of its log:\n{text}"
        return "Its log is empty"


@contextmanager
def _session_folder(home: Path) -> Iterator[Path]:
    """A folder of its own for a driver, removed afterwards; before, those of the dead are removed."""
    every = home / "cache" / "ray"
    with ExitStack() as held:
        with locked(every / "lock"):
            for left in every.glob(".trash-*"):
                shutil.rmtree(left, ignore_errors=True)
            for left in every.glob("session-*"):
                with locked(left / "lock", blocking=False) as dead:
                    if dead:
                        remove_tree(left)
            folder = Path(tempfile.mkdtemp(prefix="session-", dir=every))
            held.enter_context(locked(folder / "lock"))
        try:
            yield folder
        finally:
            remove_tree(folder)


def _check_that_somebody_answers(address: str) -> None:
    """Raises ConfigError within seconds; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:  # a port beyond 65535
        raise ConfigError(
            f"{FIELD}={address}: nothing answers there ({error}). Give the address that `ray start --head` printed, or "
            "leave it out for a cluster of the run's own"
        ) from None
