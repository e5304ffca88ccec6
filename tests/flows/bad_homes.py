"""Bad input in the home: what is missing, damaged or newer there, references that mean nothing, ports, prompts."""

import json
import socket
from pathlib import Path
from typing import Any

from bad_input import EMPTY, OWN, BadInput

RUNS: list[socket.socket] = []


def _one(home: Path, pattern: str) -> Path:
    return next(iter(sorted(home.glob(pattern))))


def _rewrite(pattern: str, change: Any) -> Any:
    """Replace the JSON of one file by what `change` makes of it (bytes are written as they are)."""

    def prepare(folder: Path, home: Path) -> None:
        path = _one(home, pattern)
        made = change(json.loads(path.read_bytes())) if callable(change) else change
        path.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())

    return prepare


def _file_for_home(folder: Path, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("I am no folder.")


def _file_above_home(folder: Path, home: Path) -> None:
    home.parent.parent.mkdir(parents=True, exist_ok=True)
    home.parent.write_text("I am no folder.")


HOMES = (
    BadInput("file for the home", "run smoke --plain", ("home: ", "cannot be written", "LLMILL_HOME"), {}, _file_for_home, EMPTY),
    BadInput("file above the home", "run smoke --plain", ("cannot be written", "LLMILL_HOME"), {}, _file_above_home, EMPTY),
    BadInput("no run to generate from", "generate x", ("no completed run yet", "llmill run"), {}, None, EMPTY),
    BadInput(
        "store of a newer version",
        "run smoke --plain --to collect",
        ("newer llmill", "format 99", "Update llmill"),
        {},
        _rewrite("store/artifacts/*.json", lambda manifest: {**manifest, "format": 99}),
        OWN,
    ),
)

ROWS = HOMES
