"""When and where something was made: for build records, run files and refs, never for artifacts."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GIT_SECONDS = 5.0


def timestamp() -> str:
    """Now, UTC, to the microsecond; for build records and run files, never for artifacts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def host_facts() -> dict[str, Any]:
    """Provenance of a build: what varies from machine to machine and enters no key."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "executable": Path(sys.executable).name,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def source_commit(checkout: Path) -> str | None:
    """The commit that a checkout of git is at; None for another folder, or where git does not answer."""
    if not (checkout / ".git").exists():  # a folder around it may be another project's
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None
