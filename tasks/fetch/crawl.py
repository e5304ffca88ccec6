"""Crawls one source in a process of its own, and puts what it has kept into the part.

The process ends with us, and by us; what it has fetched stays in the PageStore, from which the next call goes on.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.bystander import bystander
from storage.errors import DataError
from storage.home import home
from storage.processes import program_environment
from tasks.fetch.archive import write_archive
from tasks.fetch.config import CrawlSource
from tasks.fetch.page_store import FETCHED, UNCHANGED, PageStore, StoredPage, Visit

LIMITS = {  # Scrapy's or our word for why a crawl ended -> the setting that ends it
    "max_pages": "max_pages",
    "max_bytes": "max_bytes",
    "closespider_timeout": "max_minutes",
}
GRACE_SECONDS = 5.0

Progress = Callable[[dict[str, Any]], None]


@dataclass
class Crawled:
    """What a crawl came to: files, counts by outcome, its visits and the limit that ended it, if any."""

    files: list[Path]
    outcomes: Counter[str]
    limit: str = ""
    unasked: list[tuple[str, str]] = field(default_factory=list)  # addresses that it met, and why it did not ask them
    forgotten: list[str] = field(default_factory=list)  # pages of the crawl before that are not there any more


def crawl_site(
    source: CrawlSource, crawl: str, work: Path, folder: Path, progress: Progress, visited: Callable[[Visit], None]
) -> Crawled:
    """Crawl a source and write its pages as WARC into `folder`; `crawl` names the crawl that a killed one goes on with.

    Raises DataError where no page could be fetched.
    """
    place = home() / "crawls" / f"{source.name}.sqlite"
    work.mkdir(parents=True, exist_ok=True)
    job = work / f"{source.name}.json"
    job.write_text(json.dumps({"source": source.model_dump(mode="json"), "store": str(place), "crawl": crawl}))
    end = _run(job, work / f"{source.name}.log", progress)
    with PageStore(place) as store:
        outcomes: Counter[str] = Counter()
        problems: list[Visit] = []
        for visit in store.visits():
            outcomes[visit.outcome] += 1
            visited(visit)
            if visit.outcome not in (FETCHED, UNCHANGED) and visit.reason:
                problems.append(visit)
        if not outcomes[FETCHED] + outcomes[UNCHANGED]:
            raise _no_page(source, problems)
        forgotten = store.forget_unvisited()
        unasked = store.unasked()
        files = write_archive(_kept(store), folder, source.name)
    return Crawled(files, outcomes, LIMITS.get(end, ""), unasked, forgotten)


def _kept(store: PageStore) -> Iterator[StoredPage]:
    """The pages that the crawl has kept, in order of their addresses, each once."""
    finals = sorted({visit.final for visit in store.visits() if visit.outcome in (FETCHED, UNCHANGED)})
    for url in finals:
        page = store.page(url)
        if page is not None:
            yield page


def _no_page(source: CrawlSource, problems: list[Visit]) -> DataError:
    """Each request was tried three times (Scrapy's middleware): another attempt at once would find nothing else."""
    shown = [f"{visit.url}: {visit.reason}" for visit in problems[:5]]
    return DataError(
        f"collect.web {source.name}: no page could be fetched:\n  " + "\n  ".join(shown or ["nothing answered"])
    )


@bystander
def _run(job: Path, log: Path, progress: Progress) -> str:
    """Run the crawler; returns why it ended. RuntimeError with the end of its log where it broke."""
    import os

    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "storage.processes", str(os.getpid()), "tasks.fetch.crawler", str(job)],
            env=program_environment(),
            cwd=job.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        end = ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said = json.loads(line)
                end = said.get("end", "")
                if not end:
                    progress(said)
            process.wait()
        except BaseException:
            _end(process)
            raise
    if process.returncode != 0 or not end:
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
        raise RuntimeError(f"the crawler ended with status {process.returncode}: {tail}")
    return end


@bystander
def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
