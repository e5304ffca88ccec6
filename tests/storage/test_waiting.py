"""Who waits for a lock hears whose it is, at once; a holder that is stopped, not dead, is named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storage import waiting
from storage.waiting import describe_holder, held

HOLDS = (
    "import sys; from pathlib import Path; from storage.waiting import describe_holder, held\n"
    "with held(Path(sys.argv[1]), {'run': 'smoke-1', 'stage': 'filter'}, print):\n"
    "    print('holds', flush=True); sys.stdin.readline()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "lock")],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    return process


def heard(path: Path, act: "subprocess.Popen[str]", times: int = 1) -> list[str]:
    """What is shown while the lock is waited for; the holder is let go after so many lines."""
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        if len(lines) == times:
            act.send_signal(signal.SIGCONT)
            act.kill()

    with held(path, {"run": "smoke-2"}, listen):
        return lines


def test_whose_it_is_and_since_when(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    (line,) = heard(tmp_path / "lock", holder)
    assert line.startswith(f"run smoke-1 (process {holder.pid}), since ") and line.endswith(" UTC")


def test_what_an_earlier_holder_has_written_is_gone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with held(lock, {"run": 1000 * "long"}, print):
        pass
    with held(lock, {"run": "smoke-1"}, print):
        assert json.loads(lock.read_bytes()).keys() == {"run", "process", "since"}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "another process"),
        ({"run": "smoke-1"}, "run smoke-1"),
        ({"process": 7}, "another process (process 7)"),
        ({"host": "h"}, "another process"),
        (
            {"run": "smoke-1", "process": 7, "host": "h", "since": "2026-01-01T12:03:05+00:00"},
            "run smoke-1 (process 7 on h), since 12:03:05 UTC",
        ),
    ],
)
def test_a_holder_is_described_as_far_as_it_is_known(known: dict[str, Any], words: str) -> None:
    assert describe_holder(known) == words


def test_it_is_said_again(holder: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REPEAT_SECONDS", 0.0)
    assert len(heard(tmp_path / "lock", holder, times=3)) >= 3


def test_a_stopped_holder_is_named(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    (line,) = heard(tmp_path / "lock", holder)
    assert line.endswith(f": it is stopped, `kill -CONT {holder.pid}` lets it go on")
