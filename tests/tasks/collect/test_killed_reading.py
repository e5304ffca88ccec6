"""A process that reads a dump or web archives, or fetches a data set, is killed: the rerun does what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from collecting import run_collect
from hub_files import STALL_AFTER, Hub, commit_id, serve_hub
from support import ROOT
from web_archives import answer, record, web_page, write_archive

from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force, is_same
from tasks.fetch.config import FetchConfig
from tasks.fetch.stage import fetch

pytestmark = pytest.mark.slow

COLLECT = """
import json, sys
from pathlib import Path
from collecting import run_collect
run_collect(Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""
FETCH = """
import json, sys
from pathlib import Path
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.config import FetchConfig
from tasks.fetch.stage import fetch
from storage.store.local import Store
with Builder(Store(Path(sys.argv[1])), Execution(workers=1)) as builder, engine_in_force(builder):
    fetch(FetchConfig(**json.loads(sys.argv[2])))
"""


def kill_when(
    ready: Callable[[], bool], program: str, home: Path, settings: dict[str, Any], **environment: str
) -> None:
    """Run a program and kill it, with all that it started, as soon as something is there."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(home), json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        start_new_session=True,
    )
    limit = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def jobs_of(home: Path) -> dict[str, int]:
    """What each finished job left, and when."""
    return {path.name: path.stat().st_mtime_ns for path in (home / "store" / "jobs").rglob("*.json")}


def archives(folder: Path) -> dict[str, Any]:
    for number in range(6):
        pages = [
            record(
                answer(web_page(f"P {number} {n}", f"Page {n} of archive {number}, a text. " * 8)),
                f"https://a{n}.example/",
            )
            for n in range(30)
        ]
        write_archive(folder / f"{number}.warc.gz", *pages)
    return {"warc": [{"path": str(folder)}]}


def dumps(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    for number in range(6):
        pages = "".join(
            f"<page><title>T {number} {n}</title><ns>0</ns><id>{n}</id><revision><id>1</id>"
            f"<text>{f'[[Link]] and text {n}. ' * 2000}</text></revision></page>"
            for n in range(20)
        )
        (folder / f"{number}.xml").write_text(f"<mediawiki>{pages}</mediawiki>")
    return {"wikipedia": [{"path": str(folder)}]}


@pytest.mark.parametrize("make", (archives, dumps))
def test_a_killed_reader_leaves_what_it_had_read(tmp_path: Path, make: Callable[[Path], dict[str, Any]]) -> None:
    settings = make(tmp_path / "in")
    home = tmp_path / "killed"
    kill_when(lambda: len(jobs_of(home)) >= 2, COLLECT, home, settings)
    before = jobs_of(home)
    assert 2 <= len(before) < 6, "killed in the middle"
    artifact, summary = run_collect(home, **settings)
    after = jobs_of(home)
    assert {name: after[name] for name in before} == before, "what was read is not read again"
    whole, figures = run_collect(tmp_path / "whole", **settings)
    assert (artifact.digest, summary) == (whole.digest, figures)


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(2 * STALL_AFTER)
    files = {"train/a.jsonl": b'{"text": "A."}\n', "train/b.parquet": data, "train/c.parquet": data[::-1]}
    hub = Hub("org/set", {commit_id(1): files}, {"main": commit_id(1)})
    settings = {"huggingface": [{"dataset": "org/set", "revision": commit_id(1)}]}
    home = tmp_path / "home"
    with serve_hub(hub):
        kill_in_the_second_file(hub, home, settings)
        hub.asked.clear()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        artifacts = []
        for place in (home, tmp_path / "other"):
            with Builder(Store(place), Execution(workers=1)) as builder, engine_in_force(builder):
                artifacts.append(fetch(FetchConfig(**settings)))
            if place == home:
                ranges = [one for one in hub.asked if one.startswith("/lfs/") and "bytes=" in one]
                again = {one.split(" ")[0].rpartition("/")[2] for one in hub.files_asked()}
    assert len(ranges) == 1
    assert "a.jsonl" not in again, "what was fetched is not fetched again"
    assert is_same(*artifacts)


def kill_in_the_second_file(hub: Hub, home: Path, settings: dict[str, Any]) -> None:
    hub.stalls = "train/b.parquet"

    def grows() -> bool:
        for folder, _, names in os.walk(home):  # which passes over folders that vanish meanwhile
            for name in names:
                with suppress(FileNotFoundError):
                    if Path(folder, name).stat().st_size == STALL_AFTER:
                        return True
        return False

    kill_when(grows, FETCH, home, settings, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
    hub.stalls = ""
    hub.released.set()
