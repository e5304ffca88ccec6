"""When and where something was made: for build records, run files and refs, never for artifacts."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


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
