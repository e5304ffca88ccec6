"""One complete smoke run, made once and copied by the tests that start from it."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import llmill, report_of


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
