"""Bad input, one table: exit status 2, a message that names the place and the fix, no traceback, nothing lost."""

import io
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_collections
import bad_conversations
import bad_datasheets
import bad_decontamination
import bad_feedback
import bad_homes
import bad_models
import bad_moderation
import bad_recipes
import bad_searches
import bad_servers
import bad_services
import bad_serving
import bad_sources
import pytest
from bad_input import ADDRESS, EMPTY, SHARED, BadInput, files_below, published
from support import llmill, unwrapped

from flows.cli.main import main

# Other variables are read when a process starts.
READ_WHEN_ASKED = {"LLMILL_ADAPTERS", "LLMILL_PRICING", "LLMILL_SERVICE_DATABASE"}


def needs_a_process(row: BadInput) -> bool:
    """Whether a row is met when a process starts: by its environment, by bytes of its command line, by the snapshot of
    the code in the home; or starts servers if it is not refused."""
    first = row in bad_homes.HOMES and row.home == EMPTY
    at_start = not row.environment.keys() <= READ_WHEN_ASKED or not row.command.isascii()
    return first or at_start or row.command.startswith(("ui", "retrain"))


OTHERS = (
    *bad_homes.ROWS,
    *bad_serving.WITH_ENVIRONMENT,
    *bad_services.WITH_ENVIRONMENT,
    *bad_feedback.WITH_ENVIRONMENT,
    *bad_servers.HUBS,
)
HERE = (  # met in this process
    *bad_recipes.ROWS,
    *bad_searches.ROWS,
    *bad_models.ROWS,
    *bad_moderation.ROWS,
    *bad_decontamination.ROWS,
    *bad_serving.ROWS,
    *bad_feedback.ROWS,
    *bad_services.ROWS,
    *bad_sources.ROWS,
    *bad_collections.ROWS,
    *bad_datasheets.ROWS,
    *bad_conversations.ROWS,
    *bad_servers.SITES,
    *(row for row in OTHERS if not needs_a_process(row)),
)
TABLE = (*HERE, *filter(needs_a_process, OTHERS))
SIDE_BY_SIDE = 2  # commands at a time: each is a second or two of one core


@dataclass(frozen=True)
class Meeting:
    """What a command said of its bad input, and what lay there before and after."""

    result: "subprocess.CompletedProcess[str]"
    files: tuple[dict[str, str], dict[str, str]]
    published: tuple[dict[str, str], dict[str, str]]


def meet(row: BadInput, shared: Path, fresh: Path, folder: Path) -> Meeting:
    """Lay a row out in a folder of its own and run its command there."""
    home = shared if row.home == SHARED else folder / "above" / "home"
    if row.home not in (SHARED, EMPTY):
        shutil.copytree(fresh, home, symlinks=True)
    work = folder / "work"
    work.mkdir(parents=True)
    with row.serve() if row.serve else nullcontext("") as address:
        row.lay_out(work, home, address)
        files, parts = files_below(work), published(home)
        command = shlex.split(row.command.replace(ADDRESS, address))
        if row in HERE:
            result = in_this_process(command, home, work, row.environment)
        else:
            environment = {name: value.replace(ADDRESS, address) for name, value in row.environment.items()}
            result = llmill(*command, home=home, cwd=work, environment=environment, timeout=300)
    return Meeting(result, (files, files_below(work)), (parts, published(home)))


def in_this_process(
    command: list[str], home: Path, folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """The command line without a process of its own: what it imports is imported once."""
    handler = signal.getsignal(signal.SIGTERM)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        for name, value in {"LLMILL_HOME": str(home), **environment}.items():
            patch.setenv(name, value)
        try:
            with pytest.raises(SystemExit) as ended:
                main(command)
        finally:
            signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def meetings(
    request: pytest.FixtureRequest, smoke: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Meeting]:
    """The rows that were asked for, met side by side. Those that leave the home as it is share one."""
    rows = [item.callspec.params["row"] for item in request.session.items if "meetings" in item.fixturenames]  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("bad input")
    shared = folder / "shared"
    shutil.copytree(smoke[0], shared, symlinks=True)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        here = [row for row in rows if row in HERE]
        found = {row.name: meet(row, shared, smoke[0], folder / row.name) for row in here}
        others = [row for row in rows if row not in HERE]
        met = pool.map(lambda row: meet(row, shared, smoke[0], folder / row.name), others)
        return found | {row.name: meeting for row, meeting in zip(others, met, strict=True)}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in TABLE]
)
def test_bad_input_is_reported_and_loses_nothing(row: BadInput, meetings: dict[str, Meeting]) -> None:
    meeting = meetings[row.name]
    result = meeting.result
    assert result.returncode == row.status, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    message = result.stderr + result.stdout
    if row.status:
        start = re.search(r"^llmill(?: \w+){0,2}: ", result.stderr, re.MULTILINE)
        assert start, result.stderr
        message = result.stderr[start.start() :]
    for piece in row.holds:
        assert unwrapped(piece) in unwrapped(message), message
    before, after = meeting.files
    assert after == before, "the user's files are as they were"
    before, after = meeting.published
    if row.status:
        assert after.items() >= before.items(), "and so is what was built"


def test_every_kind_stands_once() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names) >= 200
