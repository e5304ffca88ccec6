"""Several processes that train together: `python -P -m model.launcher JOB.json` runs `model.trainer` in each.

torchrun's agent starts them on this machine, tells each its place, and ends all when one has failed; it is used as a
library, so that the status of the rank that failed first is the status here. A rank ends itself when the launcher is
gone, and the launcher when who has started it is. They meet by files: torch's own store would listen on all networks of
this machine, and believe whoever comes.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from model.job import TrainingJob
from model.ranks import LAUNCHER, RANKS
from storage.processes import watch_parent

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
ENDING_SECONDS = 9  # for the ranks to save after SIGTERM, before they are killed


def launch(job_file: Path, processes: int) -> int:
    """Run the trainer of a job in so many processes of this machine; returns the exit status."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the trainer's log says what there is
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(ENDING_SECONDS)  # torch 2.11 waits for 30
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
    folder = job_file.parent / RANKS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=job_file.parent.name,
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


def main(arguments: list[str]) -> int:
    job_file = Path(arguments[0])
    job = TrainingJob.read(job_file)
    if job.parent_pid is not None:
        watch_parent(job.parent_pid)
    return launch(job_file, job.ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
