"""One complete smoke run, made once and copied by the tests that start from it."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill, report_of


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with a finished plain run of the smoke recipe, and the run's report. Not to be written to."""
    home = tmp_path_factory.mktemp("smoke") / "home"
    return home, report_of(llmill("run", "smoke", "--plain", "--json", home=home))


@pytest.fixture
def smoke_home(smoke: tuple[Path, dict[str, Any]], home: Path) -> Path:
    """A copy of that home for one test."""
    shutil.copytree(smoke[0], home, dirs_exist_ok=True, symlinks=True)
    os.environ["LLMILL_HOME"] = str(home)
    return home


@pytest.fixture(scope="session")
def two_runs(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the smoke run was followed by one that fine-tunes half as long. Not to be written to."""
    home = tmp_path_factory.mktemp("two-runs") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    report_of(llmill("run", "smoke", "--plain", "--json", "--set", "finetune.steps=10", home=home))
    return home


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in this process, where what it imports is imported once."""
    return Command(capsys, monkeypatch)
