"""An operator's home for the tests of one file: servers, a worker, and a copy of the code that it runs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_home import Operator
from support import ROOT, wait_until


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, which the worker runs: a helper can be edited."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("flows", "tasks", "model", "storage", "deployments"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Operator]:
    folder, elsewhere = tmp_path_factory.mktemp("operator"), tmp_path_factory.mktemp("system")
    with Operator(folder / "home", environment={"PYTHONPATH": str(project), "TMPDIR": str(elsewhere)}) as operator:
        yield operator
    wait_until(lambda: not operator.processes(""), "Ctrl-C leaves nothing behind")
    assert list(elsewhere.iterdir()) == [], "servers, workers and runs write into the home only"
