"""Web archives by their addresses: fetched from a server and from lists such as Common Crawl's, then read."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collecting import documents_of
from hub_files import Hub, commit_id, serve_hub
from pydantic import ValidationError
from web_archives import answer, packed, record, web_page

from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.stage import fetch

FOLDER = f"lfs/{commit_id(1)}"


def archive(number: int) -> bytes:
    page = answer(web_page(f"P {number}", f"Page {number} of an archive, with a text. " * 5))
    return packed([record(page, f"https://s{number}.example/")])


@pytest.fixture
def server() -> Iterator[Hub]:
    files = {f"crawl/{n}.warc.gz": archive(n) for n in range(3)}
    files["warc.paths.gz"] = gzip.compress("".join(f"crawl/{n}.warc.gz\n" for n in range(3)).encode())
    files["bad.paths.gz"] = files["warc.paths.gz"][:-6]
    files["odd.paths"] = b"file:///etc/passwd\n"
    with serve_hub(Hub("org/set", {commit_id(1): files}, {})) as hub:
        yield hub


def texts(server: Hub, home: Path, **settings: Any) -> list[str]:
    source = {"base": f"{server.url}/{FOLDER}/", "allow_private": True, **settings}
    config = CollectConfig(warc=[source], heldout_fraction=0)
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        artifact = collect(config, fetch(config.fetching))
    assert isinstance(artifact, Artifact)
    return [document.title for document in documents_of(artifact)]


def test_archives_are_fetched_by_address_and_by_list_once(server: Hub, home: Path) -> None:
    urls = [f"{server.url}/{FOLDER}/crawl/2.warc.gz"]
    assert texts(server, home, urls=urls) == ["P 2"]
    lists = [f"{server.url}/{FOLDER}/warc.paths.gz"]
    assert texts(server, home, lists=lists, max_files=2) == ["P 0", "P 1"]
    server.asked.clear()
    assert texts(server, home, lists=lists, max_files=3) == ["P 0", "P 1", "P 2"]
    assert not any(f"crawl/{n}.warc.gz" in one for one in server.asked for n in (0, 1)), "those are here"


@pytest.mark.parametrize(
    ("name", "message"), (("bad.paths.gz", "the list is cut"), ("odd.paths", "no path of a file"), ("none", "HTTP 404"))
)
def test_a_list_that_cannot_be_used_is_named(server: Hub, home: Path, name: str, message: str) -> None:
    server.statuses = [404] if name == "none" else []
    with pytest.raises(DataError, match=message):
        texts(server, home, lists=[f"{server.url}/{FOLDER}/{name}"])


def test_a_source_has_one_place() -> None:
    for settings in ({}, {"path": "a.warc", "urls": ["https://a.example/a.warc"]}):
        with pytest.raises(ValidationError, match="give either path, or urls and lists"):
            CollectConfig(warc=[settings])
