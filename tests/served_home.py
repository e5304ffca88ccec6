"""`llmill serve` on a home, as a user starts it: `from served_home import serving`."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import llmill_command

from flows.prefect.servers import free_port


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A server of that home, and what it prints once it answers."""
    command = [*llmill_command(), "serve", "--json", "--port", str(free_port()), *arguments]
    process = subprocess.Popen(
        command, env={**os.environ, "LLMILL_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = ""
    try:
        while not lines.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines += line
        yield process, json.loads(lines)
    finally:
        process.kill()
        process.communicate()
