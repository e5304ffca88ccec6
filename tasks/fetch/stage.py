"""Fetch: the remote sources of a recipe -> files as they came, and what became of each address.

Nothing comes in but the config and the time. Out come the parts

- files: `SOURCE-00000.warc.gz` of each web site, its pages in order of their addresses; `SOURCE/PATH` of each file of
  a data set of the Hugging Face hub, `SOURCE/NUMBER-NAME` of each file by its address;
- visits: source, address, outcome and reason of every address that was asked;
- unasked: source, address and reason of those that a crawl met and did not ask, the first MOST_UNASKED.

All that needs the network is here: the stages after it read files. So a better extraction fetches nothing again, and a
source that has not changed gives the bytes that it gave. When a source is asked again is said by its `refresh_hours`:
its crawls are counted from the first of 1970, and the number enters the key. Cost: the site's pace.
"""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from storage.canonical import digest_of
from storage.documents import write_rows
from tasks.engine.context import Context, Job, Summary
from tasks.engine.stage import stage
from tasks.fetch.config import CrawlSource, DownloadSource, FetchConfig, HuggingFaceSource
from tasks.fetch.crawl import Crawled, crawl_site
from tasks.fetch.download import FILE
from tasks.fetch.files import fetch_file, file_jobs
from tasks.fetch.hub import fetch_hub_file, hub_jobs, list_hub
from tasks.fetch.page_store import FETCHED, UNCHANGED, Visit
from tasks.notices import NOTICES
from tasks.wording import figure

HOUR = 3600.0
WITH_A_PAGE = (FETCHED, UNCHANGED, "sitemap")

VISITS_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),  # links from a start
        pa.field("final", pa.string(), nullable=False),  # where redirects led
    ]
)

UNASKED_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("source", "url", "reason")])


def observe_periods(config: FetchConfig) -> dict[str, str]:
    """Of each source that is asked again and again, the number of its period: a new one is a reason to fetch."""
    sources: list[CrawlSource | HuggingFaceSource] = [*config.web, *config.huggingface]
    return {f"{source.name}/period": period for source in sources if (period := _period(source))}


def _period(source: CrawlSource | HuggingFaceSource) -> str:
    return str(int(time.time() / HOUR // source.refresh_hours)) if source.refresh_hours else ""


@stage(
    "fetch",
    parts=("files", "visits", "unasked"),
    observe=observe_periods,
    programs=("tasks.fetch.crawler",),
    libraries=("pyarrow",),
    about="tasks.fetch.about.FETCH",
)
def fetch(config: FetchConfig, *, context: Context) -> Summary:
    """Bring what is remote into the store, as it is. Summary: addresses by outcome, files, bytes."""
    rows: list[dict[str, Any]] = []
    unasked: list[dict[str, str]] = []
    summary: Summary = {"pages": 0, "addresses": 0, "files": 0, "bytes": 0}
    notices: list[str] = []
    for source in config.web:
        crawled = _crawl(source, context, rows)
        kept = crawled.outcomes[FETCHED] + crawled.outcomes[UNCHANGED]
        size = sum(file.stat().st_size for file in crawled.files)
        totals = {"pages": kept, "addresses": crawled.outcomes.total(), "files": len(crawled.files), "bytes": size}
        summary |= {name: summary[name] + value for name, value in totals.items()}
        summary |= {f"{source.name}.{name}": count for name, count in sorted(crawled.outcomes.items())}
        unasked += [{"source": source.name, "url": url, "reason": reason} for url, reason in crawled.unasked]
        notices += _notices(source, crawled)
    whole = {hub.name: _fetch_hub(hub, context, rows) for hub in config.huggingface}
    notices += [line for hub in config.huggingface for line in _other_bytes(hub, whole[hub.name]["bytes"])]
    whole |= {listed.name: _fetch_files(listed, context, rows) for listed in config.files}
    for source_name, figures in whole.items():
        summary |= {name: summary[name] + figures[name] for name in ("files", "bytes")}
        summary |= {f"{source_name}.{name}": value for name, value in figures.items()}
    write_rows(context.part("visits") / "visits.parquet", rows, VISITS_SCHEMA)
    write_rows(context.part("unasked") / "unasked.parquet", unasked, UNASKED_SCHEMA)
    return summary | ({NOTICES: notices} if notices else {})


def _crawl(source: CrawlSource, context: Context, rows: list[dict[str, Any]]) -> Crawled:
    def progress(said: dict[str, Any]) -> None:
        known = min(source.max_pages, said["pages"] + said["waiting"])
        context.progress(said["pages"], known, "pages", bytes=said["bytes"])

    def visited(visit: Visit) -> None:
        row = {"url": visit.url, "outcome": visit.outcome, "reason": visit.reason}
        rows.append({"source": source.name, **row, "depth": visit.depth, "final": visit.final})

    crawl = digest_of({"source": source.identity(), "period": _period(source)})
    return crawl_site(source, crawl, context.work, context.part("files"), progress, visited)


def _fetch_hub(source: HuggingFaceSource, context: Context, rows: list[dict[str, Any]]) -> Summary:
    """The files of a data set into the part; files that an earlier build has fetched are not fetched again."""
    listing = list_hub(source)
    files = [Job(f"{source.name}/{job.path}", job) for job in hub_jobs(source, listing, context.work)]
    for result in context.map(fetch_hub_file, files, unit="files"):
        (context.part("files") / result.name).parent.mkdir(parents=True, exist_ok=True)
        context.link("files", result.name, result.files[FILE])
        path = result.name.removeprefix(f"{source.name}/")
        url = f"hf://datasets/{source.dataset}@{listing.commit}/{path}"
        rows.append(_whole_file(source.name, url))
    size = sum(file.size for file in listing.files)
    return {"files": len(files), "bytes": size, "commit": listing.commit}


def _other_bytes(source: HuggingFaceSource, found: int) -> Iterator[str]:
    """A sentence where a data set is not as large as the recipe states."""
    if source.total_bytes is not None and source.total_bytes != found:
        yield f"{source.where}: total_bytes states {figure(source.total_bytes)}, and its files hold {figure(found)}"


def _fetch_files(source: DownloadSource, context: Context, rows: list[dict[str, Any]]) -> Summary:
    """Files by their addresses into the part."""
    jobs = file_jobs(source, context.work)
    results = context.map(fetch_file, [Job(f"{source.name}/{name}", job) for name, job in jobs.items()], unit="files")
    (context.part("files") / source.name).mkdir(parents=True, exist_ok=True)
    for result, job in zip(results, jobs.values(), strict=True):
        context.link("files", result.name, result.files[FILE])
        rows.append(_whole_file(source.name, job.url))
    return {"files": len(jobs), "bytes": sum(result.summary["bytes"] for result in results)}


def _whole_file(source: str, url: str) -> dict[str, Any]:
    """The row of a file that was fetched by its address."""
    return {"source": source, "url": url, "outcome": FETCHED, "reason": "", "depth": 0, "final": url}


def _notices(source: CrawlSource, crawled: Crawled) -> Iterator[str]:
    where = f"source {source.name}"
    if crawled.limit:
        value = getattr(source, crawled.limit)
        yield f"{where}: the crawl ended at {crawled.limit} ({figure(value)}); more pages are there"
    if crawled.forgotten:
        what = "are gone, or were not reached before its limit," if crawled.limit else "are gone"
        yield f"{where}: {figure(len(crawled.forgotten))} pages of the crawl before {what} and were dropped"
    none = {outcome: count for outcome, count in sorted(crawled.outcomes.items()) if outcome not in WITH_A_PAGE}
    if none:
        counts = ", ".join(f"{figure(count)} {outcome}" for outcome, count in none.items())
        yield (
            f"{where}: {figure(sum(none.values()))} addresses gave no page ({counts}); the reason of each: "
            "llmill cat latest/fetch/visits"
        )
