"""The threads of a server share what memory they have freed."""

import os
import platform
import re
import subprocess
import sys

import pytest
from support import ROOT

from deployments.server.arenas import ARENAS

PROGRAM = """
import ctypes, sys, threading
from deployments.server.arenas import share_memory
if sys.argv[1:]:
    share_memory()
barrier = threading.Barrier(24)
def work():
    barrier.wait()
    for size in range(20_000):
        bytearray(size % 5000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(24)]
for one in threads: one.start()
for one in threads: one.join()
library = ctypes.CDLL(None)
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


def arenas(*arguments: str) -> int:
    """How many places of memory there are after 24 threads have worked at once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MALLOC_ARENA_MAX", None)
    out = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, check=True)
    return len(re.findall(rb"<heap nr=", out.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads memory of their own")
def test_threads_share_two() -> None:
    assert arenas("shared") <= ARENAS < arenas()
