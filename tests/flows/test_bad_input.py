"""Bad input, one table: exit status 2, a message that names the place and the mend, no traceback, nothing lost."""

import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import bad_homes
import bad_recipes
import bad_sources
import pytest
from bad_input import EMPTY, SHARED, BadInput, files_below, published
from support import llmill

from flows.cli import main

TABLE = (*bad_recipes.ROWS, *bad_sources.ROWS, *bad_homes.ROWS)


@pytest.fixture(scope="module")
def shared_home(smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of all rows that damage none."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(smoke[0], home, symlinks=True)
    return home


def home_for(row: BadInput, shared: Path, fresh: Path, folder: Path) -> Path:
    if row.home == SHARED:
        return shared
    home = folder / "home"
    if row.home != EMPTY:
        shutil.copytree(fresh, home, symlinks=True)
    return home


def in_this_process(
    arguments: list[str],
    home: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> "subprocess.CompletedProcess[str]":
    """The command line without a process of its own: these rows end before anything is run, in milliseconds."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLMILL_HOME", str(home))
    handler = signal.getsignal(signal.SIGTERM)
    capfd.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        signal.signal(signal.SIGTERM, handler)
    out, err = capfd.readouterr()
    return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in TABLE]
)
def test_bad_input_is_told_and_loses_nothing(
    row: BadInput,
    shared_home: Path,
    smoke: tuple[Path, dict[str, Any]],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home_here = home_for(row, shared_home, smoke[0], tmp_path / "of this row")
    folder = tmp_path / "work"
    folder.mkdir()
    row.lay_out(folder, home_here)
    before, kept = files_below(folder), published(home_here)

    arguments = shlex.split(row.command)
    if row in bad_recipes.ROWS:
        result = in_this_process(arguments, home_here, folder, monkeypatch, capfd)
    else:
        result = llmill(*arguments, home=home_here, cwd=folder, environment=dict(row.environment), timeout=300)

    assert result.returncode == row.status, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    message = result.stderr + result.stdout
    if row.status:
        start = re.search(r"^llmill(?: \w+)?: ", result.stderr, re.MULTILINE)
        assert start, result.stderr
        message = result.stderr[start.start() :]
    for piece in row.holds:
        assert piece in message, message
    assert files_below(folder) == before, "the user's files are as they were"
    if row.status:
        assert published(home_here).items() >= kept.items(), "and so is what was built"


def test_the_table_is_as_long_as_it_was_and_names_every_kind_once() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names) >= 40
