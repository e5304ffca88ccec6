"""Several processes that train together: `python -P -m model.launcher JOB.json` runs `model.trainer` in each.

torchrun's agent starts them on this machine, tells each its place, and ends all when one has failed; it is used as a
library, so that the status of the rank that failed first is the status here. A rank ends itself when the launcher is
gone, and the launcher when who has started it is. They meet by files: torch's own store would listen on all networks of
this machine, and believe whoever comes.

On several machines each has a launcher, and an agent that knows of its own ranks alone: who has started the launchers
ends all of them together. Their ranks meet at a store of torch's at one address, that of the first machine, whose
launcher is given a socket that listens there: `model.launcher JOB.json DESCRIPTOR`.
"""

import logging
import os
import shutil
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from model.job import TrainingJob
from model.ranks import LAUNCHER, WAITING, ranks_folder
from storage.errors import ConfigError
from storage.processes import watch_parent

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
ENDING_SECONDS = 9  # for the ranks to save after SIGTERM, before they are killed
SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of a network interface


def launch(job_file: Path, job: TrainingJob) -> int:
    """Run the trainer of a job in its processes of this machine; returns the exit status."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the trainer's log says what there is
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(ENDING_SECONDS)  # torch 2.11 waits for 30
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if job.node is None:
        os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
    elif "GLOO_SOCKET_IFNAME" not in os.environ:
        os.environ["GLOO_SOCKET_IFNAME"] = interface_to(*_place(job.node.meeting))
    folder = ranks_folder(job)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.ranks_here,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint=str(folder / "launcher"),
        rdzv_configs={"store_type": "file"},
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),  # otherwise outside the home
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "model.trainer", str(job_file))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return 128 - status if status < 0 else status  # of a signal
    except SignalException:
        return 128 + signal.SIGTERM
    return 0


def open_store(meeting: str, descriptor: int) -> Any:
    """The store that ranks of several machines meet by: it listens at that socket, as long as somebody has it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = _place(meeting)
    return TCPStore(host, port, None, True, WAITING, wait_for_workers=False, master_listen_fd=descriptor)


def interface_to(host: str, port: int) -> str:
    """The name of the network interface by which this machine reaches an address: gloo listens there alone.

    Raises ConfigError where it cannot be told, since gloo would choose another.
    """
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # sends nothing
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            if own in _addresses(name):
                return name
    raise ConfigError(f"no network interface has the address {own}: set GLOO_SOCKET_IFNAME to the one to {host}")


def _addresses(interface: str) -> list[str]:
    """The addresses of an interface, as Linux tells them."""
    import fcntl

    found = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        found.append(socket.inet_ntoa(answer[20:24]))
    with suppress(OSError):
        lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
        found += [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[0])) for line in lines if line[5] == interface]
    return found


def _place(meeting: str) -> tuple[str, int]:
    host, _, port = meeting.rpartition(":")
    return host.strip("[]"), int(port)


def main(arguments: list[str]) -> int:
    job_file = Path(arguments[0])
    job = TrainingJob.read(job_file)
    if job.parent_pid is not None:
        watch_parent(job.parent_pid)
    store = open_store(job.node.meeting, int(arguments[1])) if job.node and len(arguments) > 1 else None
    try:
        return launch(job_file, job)
    except ConfigError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201
        return error.exit_status
    finally:
        del store


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
