"""The process that talks to Ray for a run, and what Ray's workers do for it.

Ray is tamed here. A cluster of the run's own listens on the loopback alone and asks whoever connects for a token, which
only its processes know; it has no dashboard, sends no statistics, writes nothing outside the session's folder, and
ends with its driver. Of a cluster that others have started, nothing is changed.
"""

import os
import platform
import secrets
import socket
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

from storage.errors import ConfigError
from storage.home import VARIABLE as HOME_VARIABLE
from storage.processes import watch_parent
from storage.snapshot import ORIGIN as ORIGIN_VARIABLE
from storage.snapshot import VARIABLE as CODE_VARIABLE
from tasks.engine.decide import deciding_version
from tasks.engine.executor import ShardWork, Written, carry_out

ATTEMPTS = 3  # at a shard whose worker dies
OBJECT_STORE_BYTES = 80 << 20  # Ray wants 75 MiB at least; what is passed here are names and figures
SOCKET_BYTES = 107  # of a path, at most, on Linux; 103 on macOS
SESSION_NAME_BYTES = 70  # /session_2026-11-30_18-14-46_567438_4194304/sockets/plasma_store and a few more

ROOT = Path(__file__).resolve().parents[2]  # of the code that this process runs


@dataclass(frozen=True, slots=True)
class Session:
    """What a driver is told: its folder, how many tasks at a time, which cluster (None: one of its own), and the
    current folder of the run, from which paths in recipes are."""

    folder: Path
    workers: int
    address: str | None
    current: Path


@dataclass(frozen=True, slots=True)
class Failed:
    """An error instead of a result, and where it was raised."""

    error: BaseException
    trace: str


def drive(pipe: Connection, parent: int, session: Session) -> None:
    """Send None, or Failed, when a cluster is there or not. Then for each list of work its results, until the pipe is
    closed. The process leads a group and ends it when its parent is gone."""
    os.setpgid(0, 0)
    watch_parent(parent, descendants=True)  # Ray's workers leave the group
    log = os.open(session.folder / "driver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(ROOT)  # Ray puts the driver's folder first on the workers' path: none with a `tasks.py` of the user's
    try:
        _start_own(session) if session.address is None else _join(session)
    except Exception as error:
        pipe.send(Failed(_no_cluster(session.address, error), ""))
        raise
    pipe.send(None)
    with suppress(EOFError):
        while True:
            _carry_out_all(pipe, pipe.recv(), session)
    import ray

    ray.shutdown()


# Clusters ---------------------------------------------------------------------------------------------------------


def _start_own(session: Session) -> None:
    """A cluster on this machine, which has as many CPUs as there are workers and ends with this process."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]  # meant for clusters of the user's
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # given here, or Ray writes one into the user's home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # it kills workers where others fill the memory of the machine
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **_worker_environment(),
    }
    folder = _short_name(session.folder)
    import ray

    _keep_to_loopback()
    ray.init(
        address="local",
        num_cpus=session.workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        _plasma_directory=folder,  # or /dev/shm, and /tmp where that is small
    )


def _join(session: Session) -> None:
    """A cluster that is there. Its workers run this code, which lies in the home that they share; nothing is sent."""
    os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "5")  # seconds that ray:// lets a dead run's tasks go on
    import ray

    environment = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **_worker_environment()}
    ray.init(
        address=session.address,
        runtime_env={"env_vars": environment},
        log_to_driver=False,
        configure_logging=False,
    )


def _worker_environment() -> dict[str, str]:
    given = {name: os.environ[name] for name in (HOME_VARIABLE, CODE_VARIABLE, ORIGIN_VARIABLE) if name in os.environ}
    return {**given, "TOKENIZERS_PARALLELISM": "false"}  # the shards are the unit of parallelism


def _short_name(folder: Path) -> str:
    """A name of the folder under which sockets can be bound: their paths hold 107 bytes on Linux (unix(7)), and Ray
    adds some 70. There an open folder has a short name, wherever it lies."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            descriptor = os.open(folder, os.O_RDONLY)  # stays open as long as this process
            name = f"/proc/{os.getpid()}/fd/{descriptor}"
            if not Path(name).is_dir():
                name = str(folder)
                if len(os.fsencode(name)) + SESSION_NAME_BYTES > SOCKET_BYTES:
                    raise ConfigError(
                        f"{folder}: too long a path for Ray's sockets on this system. Set {HOME_VARIABLE} to a folder "
                        "with a shorter one, or execution.executor=processes"
                    )
            probe.bind(f"{name}/socket")
    except OSError as error:
        raise ConfigError(
            f"{folder}: Ray needs a file system with sockets ({error.strerror}). Set {HOME_VARIABLE} to a folder of a "
            "local disk, or execution.executor=processes"
        ) from None
    return name


def _keep_to_loopback() -> None:
    """Take from Ray what has no setting: it replaces the loopback's address by that of the network, and starts a
    dashboard without pages, an autoscaler that listens on all addresses, and a reader of logs. AttributeError where
    a version of Ray has other insides."""
    from ray._private import services
    from ray._private.node import Node

    def no_pages(node: Any, **settings: Any) -> None:
        node._webui_url = None

    inside: list[tuple[Any, str, Any]] = [
        (services, "resolve_ip_for_localhost", lambda host: host),
        (Node, "start_api_server", no_pages),
        (Node, "start_monitor", lambda node: None),
        (Node, "start_log_monitor", lambda node: None),
    ]
    for owner, name, replacement in inside:
        getattr(owner, name)
        setattr(owner, name, replacement)


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    what = " ".join(str(error).split())[:1_000] or type(error).__name__
    if address is None:
        return ConfigError(f"Ray can't start a cluster on this machine: {what}. Set execution.executor=processes")
    return ConfigError(
        f"execution.ray_address={address}: {what.rstrip('.')}. Give the address of a cluster that this machine is part "
        "of, or ray://host:port of another"
    )


# Work -------------------------------------------------------------------------------------------------------------


def _carry_out_all(pipe: Connection, work: Sequence[ShardWork], session: Session) -> None:
    """Send what comes of each piece as soon as it is there; after an error nothing more."""
    import ray
    from ray import exceptions as failures

    task = ray.remote(num_cpus=1, max_retries=0)(_carry_out_here)
    waiting = deque((one, 1) for one in work)
    running: dict[Any, tuple[ShardWork, int]] = {}
    while waiting or running:
        while waiting and len(running) < session.workers:
            one, attempt = waiting.popleft()
            # a worker that was only taken for dead goes on writing: never into the folder of the next attempt
            alone = replace(one, folder=one.folder.with_name(f"{one.key}-{uuid4().hex}"))
            running[task.remote(alone, session)] = one, attempt
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        one, attempt = running.pop(ended)
        try:
            result = ray.get(ended)
        except (
            failures.WorkerCrashedError,
            failures.NodeDiedError,
            failures.OutOfMemoryError,
            failures.ObjectLostError,
        ) as error:
            if attempt < ATTEMPTS:
                waiting.appendleft((one, attempt + 1))
                continue
            result = Failed(_given_up(one, error), "")
        except failures.LocalRayletDiedError as error:
            result = Failed(ConnectionError(str(error)), "")  # which a retry of the stage may cure
        except failures.RayError as error:
            result = Failed(_not_taken(one, error), "")
        pipe.send(replace(result, attempts=attempt) if isinstance(result, Written) else result)
        if isinstance(result, Failed):
            return


def _given_up(work: ShardWork, error: Exception) -> ConfigError:
    return ConfigError(
        f"{work.stage}: shard {work.job.name} was given up: the worker that it was given to has died {ATTEMPTS} times "
        f"({' '.join(str(error).split())[:300]}). If the memory was full, set a lower execution.workers"
    )


def _not_taken(work: ShardWork, error: Exception) -> ConfigError:
    return ConfigError(
        f"{work.stage}: Ray's workers can't do shard {work.job.name}: {str(error).strip().splitlines()[-1]}. All "
        f"machines of the cluster need the same Python and packages (pip install 'llmill[ray]') and the home "
        f"({HOME_VARIABLE}) under the same path"
    )


def _carry_out_here(work: ShardWork, session: Session) -> Written | Failed:
    """What a worker of Ray does; errors are returned, since Ray would wrap them."""
    try:
        _check_machine(session)
        _check_libraries(tuple(work.libraries.items()))
        return carry_out(work)
    except BaseException as error:
        return Failed(_as_it_travels(error), traceback.format_exc())


@cache
def _check_machine(session: Session) -> None:
    """Once in each worker: it shares the run's home, works in the run's folder, and ends with those who started it."""
    watch_parent(os.getppid())
    if not session.folder.is_dir():
        raise ConfigError(
            f"{platform.node()}, a machine of the Ray cluster, does not see {session.folder}: all its machines have to "
            f"share the home ({HOME_VARIABLE}) under the same path"
        )
    if session.current.is_dir():
        os.chdir(session.current)


@cache
def _check_libraries(versions: Sequence[tuple[str, str]]) -> None:
    """The versions that the key names are those of this machine."""
    for name, version in versions:
        here = deciding_version(name)
        if here != version:
            raise ConfigError(
                f"{platform.node()}, a machine of the Ray cluster, has {name} {here}, and the machine of the run "
                f"{version}: install the same versions (deployments/constraints.txt) on all of them"
            )


def _as_it_travels(error: BaseException) -> BaseException:
    """The error, or a plain one with its text where it can't be rebuilt elsewhere."""
    try:
        return deepcopy(error)  # by the means of pickle
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
