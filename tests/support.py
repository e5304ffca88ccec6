"""Helpers that tests import: `from support import shared_data`."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


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


def processes_of(home: Path) -> list[str]:
    """Command lines of the living processes that work on a home."""
    return list(living_processes(home).values())
