"""Helpers that tests import: `from support import shared_data`."""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


PATIENCE_SECONDS = 240.0  # with what takes a moment, on a machine that is busy with ten other things


class Clock:
    """Stands for the module `time`: seconds pass while somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.before_sleep: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.before_sleep()
        self.now += seconds


def wait_until(
    condition: Callable[[], Any], what: str, process: "subprocess.Popen[Any] | None" = None, every: float = 0.05
) -> None:
    """Wait for a condition, never for a time. Fails where the process that should bring it about has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        assert process is None or process.poll() is None or condition(), f"the process has ended before: {what}"
        time.sleep(every)


def cost_in_loops(action: Callable[[], Any]) -> float:
    """CPU time of an action and of the processes that it runs, in units of a plain Python loop of 100,000 turns (6 ms
    on a fast core): the best of three each, taken in turns, so that neither a slow machine nor a busy one changes it
    much."""

    def spent() -> float:
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    def seconds(work: Callable[[], Any]) -> float:
        started = spent()
        work()
        return spent() - started

    taken = [(seconds(action), seconds(lambda: sum(turn * turn % 7 for turn in range(100_000)))) for _ in range(3)]
    return min(cost for cost, _ in taken) / min(loop for _, loop in taken)


def drawn_moments() -> random.Random:
    """Random moments to kill at. The seed is printed; LLMILL_TEST_SEED repeats the moments of a test that failed."""
    seed = int(os.environ.get("LLMILL_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"moments drawn with LLMILL_TEST_SEED={seed}")
    return random.Random(seed)


def shared_data(*names: str) -> Path:
    """A file of the data folder beside the checkout; skips the test where it is absent."""
    path = ROOT.parent.joinpath("shared", "data", *names)
    if not path.exists():
        pytest.skip(f"no {'/'.join(names)} beside the checkout")
    return path


def llmill_command() -> list[str]:
    """The command line as a user starts it, from any folder."""
    script = Path(sys.executable).with_name("llmill")
    if not script.exists():
        pytest.fail("llmill is not installed beside this Python: pip install -e '.[dev]'")
    return [str(script)]


def llmill(
    *arguments: str,
    home: Path,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout: float = 600,
) -> "subprocess.CompletedProcess[str]":
    """Run the command line on a home and return what it said."""
    return subprocess.run(
        [*llmill_command(), *arguments],
        cwd=cwd,
        env={**os.environ, "LLMILL_HOME": str(home), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def unwrapped(text: str) -> str:
    """What was printed in 80 columns, as one line."""
    return " ".join(text.split())


class Command:
    """Runs commands in this process: `status, out, err = command("runs", home=home)`."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str, home: Path) -> tuple[int, str, str]:
        from flows.cli.main import main

        self._monkeypatch.setenv("LLMILL_HOME", str(home))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err

    def json(self, *arguments: str, home: Path) -> Any:
        """The value that `--json` prints; the command must succeed."""
        status, out, err = self(*arguments, "--json", home=home)
        assert status == 0, err
        return json.loads(out)


def users_own_modules(folder: Path) -> Path:
    """A folder with a user's own `tasks.py`, `flows.py`, `model/` and `storage/`, which end whoever imports them."""
    for package in ("model", "storage"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise SystemExit('the user module was imported')\n")
    for module in ("tasks.py", "flows.py"):
        (folder / module).write_text("raise SystemExit('the user module was imported')\n")
    return folder


def report_of(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The object that `--json` printed; fails with the error output where the command failed."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["outcome"] for stage in report["stages"]}


def digests(report: dict[str, Any]) -> dict[str, str]:
    """The digest of every part, by `stage/part`."""
    return {
        f"{stage['stage']}/{name}": part["digest"]
        for stage in report["stages"]
        for name, part in stage["artifact"]["parts"].items()
    }


def is_alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(process: int) -> dict[int, str]:
    """The living processes that a process has started, and those that they have: command lines by process id. Ray's
    workers write over their environment, by which `living_processes` knows its own."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, waiting = {}, [process]
    while waiting:
        for child in children.get(waiting.pop(), []):
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text(errors="replace").replace("\0", " ")
                waiting.append(child)
    return {child: command for child, command in found.items() if command}


def living_processes(home: Path) -> dict[int, str]:
    """The living processes that work on a home, this one left out: command lines by process id."""
    marker = f"LLMILL_HOME={home}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (process / "environ").read_bytes().split(b"\0") and process.name != str(os.getpid()):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return {process: command for process, command in found.items() if command}


def listening_elsewhere(processes: set[int]) -> list[str]:
    """Sockets of these processes that listen at, or are connected to, other addresses than the loopback's."""
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    sockets = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(descriptor.readlink().name.removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    tables = ("tcp", "tcp6", "udp", "udp6")
    lines = [line.split() for name in tables for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    own = [line for line in lines if line[9] in sockets]
    assert own, "they have sockets that are looked at"
    return [f"{line[1]} {line[2]}" for line in own if line[1].partition(":")[0] not in loopback]


def processes_of(home: Path) -> list[str]:
    """Command lines of the living processes that work on a home."""
    return list(living_processes(home).values())
