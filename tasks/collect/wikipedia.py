"""The `wikipedia` sources: articles of a dump of MediaWiki -> documents.

A dump is read page by page (dumps.py), and the wikitext of each article is made text in a child process that can be
killed (wikitext.py), since its parser takes minutes on text that is made to hang it. Redirects, pages that are no
articles and pages of another model than wikitext are dropped and counted by reason. Cost: 1.7 MB of wikitext a
CPU-second.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import Field

from storage.documents import Document, document_id
from tasks.collect.discover import DUMP_FORMATS, kind_of
from tasks.collect.dumps import ARTICLES, Site, WikiPage, read_dump
from tasks.collect.jobs import FileJob
from tasks.collect.output import JobOutput
from tasks.collect.pages.child import Child
from tasks.collect.records import RAW_LIMIT, BadRecord, excerpt
from tasks.collect.unpack import is_packed, read_blocks
from tasks.engine.context import Summary

MEMORY_BYTES = 2**30  # of the process that parses; an article of 1 MB takes 100 MB
REDIRECT, OTHER_NAMESPACE, OTHER_MODEL = "redirect", "other_namespace", "other_model"  # why a page is dropped


class WikipediaJob(FileJob):
    """One dump file of a source. Its language, if it has one, counts before the one that the dump states."""

    seconds: float = Field(description="Processor time of an article's wikitext.")


def read_wikipedia(job: WikipediaJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one dump file."""
    with (
        JobOutput(out, job.source, job.documents_per_shard) as output,
        Child(job.seconds, MEMORY_BYTES) as child,
    ):
        for name in job.names:
            for page in _pages(job, name, inputs[name]):
                output.counts["read"] += 1
                _take(job, name, page, child, output)
    return output.summary()


def _pages(job: WikipediaJob, name: str, path: Path) -> Iterator[tuple[Site, WikiPage] | BadRecord]:
    kind = kind_of(name, DUMP_FORMATS)
    assert kind is not None, name
    if path.stat().st_size == 0:
        yield BadRecord(1, "empty file")
        return
    packing = kind.packing if kind.packing and is_packed(path, kind.packing) else ""
    blocks = read_blocks(path, packing, max_window_bytes=job.max_window_bytes)
    yield from read_dump(blocks, RAW_LIMIT * job.max_document_bytes)


def _take(
    job: WikipediaJob, name: str, found: tuple[Site, WikiPage] | BadRecord, child: Child, output: JobOutput
) -> None:
    """Write what becomes of a page."""
    if isinstance(found, BadRecord):
        return output.bad(name, found)
    site, page = found
    reason = _why_dropped(page)
    if reason:
        return output.drop(reason, name, page.line, page.title)
    text = _text(page, site.unread, child)
    if isinstance(text, BadRecord):
        return output.bad(name, text)
    if not text.strip():
        return output.empty(name, page.line, page.title)
    size = len(text.encode())
    if size > job.max_document_bytes:
        reason = f"{size} bytes, max_document_bytes is {job.max_document_bytes}"
        return output.bad(name, BadRecord(page.line, reason, excerpt(page.title)))
    output.document(_document(job, name, site, page, text))


def _why_dropped(page: WikiPage) -> str:
    if page.namespace not in (ARTICLES, ""):
        return OTHER_NAMESPACE
    if page.redirect:
        return REDIRECT
    return OTHER_MODEL if page.model not in ("wikitext", "") else ""


def _text(page: WikiPage, prefixes: Collection[str], child: Child) -> str | BadRecord:
    assert page.text is not None, page.title
    if not page.text.strip():
        return ""
    answer = child.ask({"read": "wikitext", "prefixes": sorted(prefixes)}, page.text.encode())
    if isinstance(answer, str):
        return BadRecord(page.line, f"its wikitext could not be parsed: {answer}", excerpt(page.title))
    return str(answer["text"])


def _document(job: WikipediaJob, name: str, site: Site, page: WikiPage, text: str) -> Document:
    return Document(
        id=document_id(job.source, page.title, text),
        text=text,
        source=job.source,
        group=page.title,
        split=job.splits.of(page.title, name),
        url=site.address(page.title),
        title=page.title,
        lang=job.lang or site.lang,
        license=job.license,
        metadata={
            "file": name,
            "line": page.line,
            "id": page.identity,
            "revision": page.revision,
            "timestamp": page.timestamp,
        },
    )
