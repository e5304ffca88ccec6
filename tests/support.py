"""Helpers that tests import: `from support import shared_data`."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
