"""SIGTERM while something is computed, in a process of its own."""

import subprocess
import sys

import pytest
from support import ROOT

WORK = """
import os, signal, sys, time
from types import SimpleNamespace
from model.termination import TERMINATED, TerminatedError, Termination

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

def in_a_finalizer():
    Dropped()  # Python says so, and goes on

def in_what_catches_errors():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    except Exception:
        pass

def work():
    {moment}()
    time.sleep(30)

termination = Termination(SimpleNamespace(sharded=False, worst=bool))
termination.listen()
try:
    termination.interruptible(work)
except TerminatedError:
    sys.exit(TERMINATED)
"""


@pytest.mark.parametrize("moment", ["in_a_finalizer", "in_what_catches_errors"])
def test_work_that_loses_the_error_ends_soon_all_the_same(moment: str) -> None:
    program = [sys.executable, "-c", WORK.format(moment=moment)]
    assert subprocess.run(program, cwd=ROOT, timeout=20, stderr=subprocess.DEVNULL).returncode == 143
