"""Children that never outlive their parent, however it dies.

`python -P -m storage.processes PARENT MODULE [ARGUMENT ...]` runs a module as a program that ends itself, and the
process group that it leads, when the process PARENT is gone.
"""

import os
import runpy
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.bystander import bystander

POLL_SECONDS = 0.3
REFUSED = 64  # + errno: exit status of a child that the operating system refused something; its log may be refused too


@bystander
def watch_parent(parent_pid: int, *, descendants: bool = False) -> None:
    """End this process, at once and without clean-up, when its parent is gone.

    A process that leads its group takes the whole group with it; with `descendants`, what has left the group too.
    Polling `getppid()`, because a SIGKILL of the parent runs no handler anywhere, and prctl's death signal exists on
    Linux only and follows the parent's thread, not its process. What must survive a kill is on disk already.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(POLL_SECONDS)
        if descendants:
            end_descendants(os.getpid())
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


@bystander
def end_descendants(process: int) -> None:
    """Kill all that a process has started, and what that has, whatever groups they are in. Linux; nothing elsewhere."""
    stopped: set[int] = set()
    while new := _descendants(process) - stopped:  # what is stopped starts no others
        _signal(new, signal.SIGSTOP)
        stopped |= new
    _signal(stopped, signal.SIGKILL)


@bystander
def _descendants(process: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = set[int](), [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


@bystander
def _signal(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


@bystander
def program_environment() -> dict[str, str]:
    """The environment of a child that runs a module of ours: a user's own `model/` or `tasks.py` can't take its place.

    A checkout, installed as editable or not at all, is put before what else there is: the child must run its very code.
    """
    environment = dict(os.environ)
    environment["PYTHONSAFEPATH"] = "1"
    root = Path(__file__).resolve().parents[1]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if root not in installed:
        paths = [str(root), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


@bystander
@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off what would interrupt the main thread: a second Ctrl-C while the first one's end is written down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in interrupts}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


if __name__ == "__main__":
    watch_parent(int(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
