"""A child that knows its parent ends with it, and takes its group along."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from support import ROOT, is_alive, wait_until

from storage.processes import undisturbed

SHOW = """
import os, subprocess, sys, time
print(os.getpid(), __name__, *sys.argv[1:], flush=True)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""

PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-P", "-m", "storage.processes", str(os.getpid()), "show", "one", "two words"]
subprocess.Popen(command, start_new_session=sys.argv[1] == "leads")
time.sleep(600)
"""


def started(folder: Path, how: str) -> tuple["subprocess.Popen[str]", int, int]:
    """The parent, the child that runs a module as a program, and a grandchild."""
    (folder / "show.py").write_text(SHOW)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, how],
        env={"PYTHONPATH": f"{ROOT}:{folder}"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    child, *said = parent.stdout.readline().split(maxsplit=2)
    assert said == ["__main__", "one two words\n"]
    return parent, int(child), int(parent.stdout.readline())


def test_a_child_that_leads_its_group_takes_the_group_along_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent, child, grandchild = started(tmp_path, "leads")
    assert is_alive(child) and is_alive(grandchild)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child) and not is_alive(grandchild), "child and grandchild end")


def test_a_child_that_leads_no_group_ends_alone(tmp_path: Path) -> None:
    parent, child, grandchild = started(tmp_path, "follows")
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child), "the child ends")
    assert is_alive(grandchild), "the group is another's"
    subprocess.run(["kill", "-9", str(grandchild)], check=True)


def test_what_would_interrupt_is_put_off_and_then_as_before() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with undisturbed():
        for number in numbers:
            os.kill(os.getpid(), number)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_changes_nothing_of_signals() -> None:
    seen = []

    def work() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
