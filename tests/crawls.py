"""Crawls of sites that the tests serve: run the stage, and read what it made."""

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sites import Site

from storage.store.artifacts import Artifact
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.config import CrawlSource, FetchConfig
from tasks.fetch.stage import fetch

ONCE = Execution(retries=0)


def source(site: Site, **settings: Any) -> CrawlSource:
    given = {"name": "site", "urls": (site.url(),), "allow_private": True, "delay_seconds": 0.0, **settings}
    return CrawlSource(**given)


def crawled(home: Path, *sources: CrawlSource, force: bool = False) -> tuple[Artifact, dict[str, Any]]:
    from storage.store.local import Store
    from tasks.engine.builder import Builder
    from tasks.engine.planner import Options

    options = Options(force=frozenset({"fetch"} if force else ()))
    with Builder(Store(home), ONCE, options) as engine, engine_in_force(engine):
        artifact = fetch(FetchConfig(web=sources))
    assert isinstance(artifact, Artifact)
    return artifact, engine.results[-1].summary


def outcomes(artifact: Artifact) -> dict[str, tuple[str, str]]:
    """Path -> outcome and reason."""
    rows = pq.read_table(artifact["visits"].files[0].path).to_pylist()
    return {row["url"].partition("//")[2].partition("/")[2]: (row["outcome"], row["reason"]) for row in rows}


def bodies(artifact: Artifact) -> dict[str, bytes]:
    """Path -> body of each archived page, as another reader of WARC sees it."""
    from fastwarc.warc import ArchiveIterator

    found: dict[str, bytes] = {}
    for file in artifact["files"].files:
        for record in ArchiveIterator(io.BytesIO(file.path.read_bytes())):
            record.parse_http()
            url = record.headers["WARC-Target-URI"]
            found[url.partition("//")[2].partition("/")[2]] = record.reader.read()
    return found
