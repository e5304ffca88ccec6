"""The `warc` sources: pages and texts of web archives (WARC, WET) -> documents.

HTML of answers with status 200 is read by PageReader, text/plain and the conversions of WET files are taken as they
are; requests, revisits, other answers and other types are dropped and counted by reason. A page that says of itself
that it was not found, though the server said 200, is dropped too. Then the lines that repeat across the pages of a
site are removed, which takes a second pass over the file's texts: they wait in a temporary file. Cost: that of reading
the pages (pages/reader.py); frames and HTTP about 100 MB a CPU-second.
"""

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pydantic import Field

from storage.documents import Document, document_id
from tasks.collect.discover import WARC_FORMATS, kind_of
from tasks.collect.http_answers import BadAnswer, content_type, parse_answer
from tasks.collect.jobs import FileJob
from tasks.collect.output import SITE_LINES, JobOutput
from tasks.collect.pages.charset import decoded_page, guessed
from tasks.collect.pages.config import PageConfig
from tasks.collect.pages.reader import Page, PageReader
from tasks.collect.pages.reasons import NOT_HTML, WITHOUT_TEXT
from tasks.collect.pages.site_lines import SiteLines
from tasks.collect.records import BadRecord, excerpt, too_long
from tasks.collect.warc_records import MAX_HEADER_BYTES, Frame, read_frames
from tasks.engine.context import Summary

WANTED = frozenset(("response", "resource", "conversion"))
_HTML = ("text/html", "application/xhtml+xml")
_DROPPED_TYPES = ("request", "revisit", "metadata", "warcinfo", "continuation")  # of records; others are `other_record`

MOST_SOFT_404_WORDS = 150  # a longer page that names 404 is about something
_SOFT_404 = re.compile(
    r"(?<![\w.])(error )?404(?![\w.])"
    r"|(page|file|document|article|site|content) (was |is |could |can )?(not|n't) (be )?found"
    r"|^\s*not found\b|page (does not|doesn.t|no longer) exist|no such page|seite (wurde )?nicht gefunden"
    r"|page (est )?(introuvable|non trouvée)|página no (fue )?encontrada|página não (foi )?encontrada"
    r"|pagina non trovata|pagina niet gevonden|strona nie (została )?znaleziona|страница не найдена|找不到(网页|页面)"
    r"|ページが見つかりません",
    re.IGNORECASE,
)
_HASHES = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16}


class WarcJob(FileJob):
    """One WARC file of a source."""

    group_by: str = Field(description="host or page.")
    site_lines: bool = Field(description="Whether lines that repeat across a site are removed.")
    pages: PageConfig = Field(description="How pages are read.")


@dataclass(frozen=True, slots=True)
class _Text:
    """A page between the two passes."""

    number: int
    url: str
    host: str
    text: str
    title: str
    lang: str
    license: str
    metadata: dict[str, Any]


def read_warc(job: WarcJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one file."""
    with (
        JobOutput(out, job.source, job.documents_per_shard) as output,
        PageReader(job.pages) as reader,
    ):
        for name in job.names:
            with tempfile.TemporaryFile("w+", encoding="utf-8", dir=out) as waiting:
                lines = SiteLines()
                for text in _texts(job, name, inputs[name], reader, output):
                    lines.add(text.host, text.text)
                    waiting.write(json.dumps(_as_row(text)) + "\n")
                waiting.seek(0)
                for text in _read_back(waiting):
                    _write(job, name, text, lines, output)
    return output.summary()


def host_of(url: str) -> str:
    """The host of an address in lower case, without `www.`; empty where it has none."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def is_soft_404(title: str, text: str) -> bool:
    """Whether a short page says in its title that there is no such page."""
    return _SOFT_404.search(title) is not None and len(text.split()) <= MOST_SOFT_404_WORDS


def _texts(job: WarcJob, name: str, path: Path, reader: PageReader, output: JobOutput) -> Iterator[_Text]:
    """The texts of a file's records; what becomes of the others is counted."""
    kind = kind_of(name, WARC_FORMATS)
    assert kind is not None, name
    if path.stat().st_size == 0:
        output.counts["read"] += 1
        output.bad(name, BadRecord(1, "empty file"))
        return
    limit = job.pages.max_bytes + MAX_HEADER_BYTES
    for frame in read_frames(path, kind.packing, WANTED, limit, job.max_window_bytes):
        output.counts["read"] += 1
        made = frame if isinstance(frame, BadRecord) else _text_of(job, frame, reader)
        if isinstance(made, _Text):
            yield made
        elif isinstance(made, BadRecord):
            output.bad(name, made)
        else:
            assert isinstance(frame, Frame), frame
            output.drop(made, name, frame.number, _address(frame))


def _text_of(job: WarcJob, frame: Frame, reader: PageReader) -> _Text | BadRecord | str:
    """The text of a record, why it cannot be read, or the rule that drops it."""
    if frame.type not in WANTED:
        return frame.type if frame.type in _DROPPED_TYPES else "other_record"
    url = _address(frame)
    if not host_of(url):  # of DNS, of the crawler's own logs
        return "other_record"
    if len(frame.block) == frame.length and not _digest_agrees(frame):
        return BadRecord(frame.number, "its contents do not have the digest that its header names", excerpt(url))
    if frame.type != "response":
        media_type, charset = content_type(frame.headers.get("content-type", ""))
        return _read_body(job, frame, url, media_type, charset, frame.block, reader)
    try:
        answer = parse_answer(frame.block, job.pages.max_bytes, frame.is_whole)
    except BadAnswer as bad:
        return BadRecord(frame.number, str(bad), excerpt(url))
    if answer.status != 200:
        return "status"
    return _read_body(job, frame, url, answer.media_type, answer.charset, answer.body, reader)


def _address(frame: Frame) -> str:
    return frame.headers.get("warc-target-uri", "").strip("<>")


def _read_body(
    job: WarcJob, frame: Frame, url: str, media_type: str, charset: str, body: bytes, reader: PageReader
) -> _Text | BadRecord | str:
    html = media_type in _HTML or (not media_type and b"<html" in body[:1024].lower())
    if not html and media_type != "text/plain":
        return "content_type"
    if len(frame.block) < frame.length:
        return BadRecord(frame.number, too_long(job.pages.max_bytes), excerpt(url))
    if html:
        page = reader.read(body, url=url, charset=charset)
    else:
        text, encoding = decoded_page(body, charset)
        text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
        page = Page(text, lang=_stated_language(frame), about=guessed(encoding))
    if isinstance(page, str):
        if page in WITHOUT_TEXT:
            return "no_text"
        return "content_type" if page.startswith(NOT_HTML) else BadRecord(frame.number, page, excerpt(url))
    if not page.text.strip():
        return "no_text"
    if "\0" in page.text:
        return BadRecord(frame.number, "a NUL character: this is not text", excerpt(url))
    if html and is_soft_404(page.title, page.text):
        return "not_found"
    metadata = {"date": page.date, "fetched": frame.headers.get("warc-date", ""), "canonical": page.url}
    known = {key: value for key, value in metadata.items() if value and value != url} | dict(page.about)
    return _Text(frame.number, url, host_of(url), page.text, page.title, page.lang, page.license, known)


def _stated_language(frame: Frame) -> str:
    """The language that a WET file states of a text, the first of several."""
    return frame.headers.get("warc-identified-content-language", "").partition(",")[0].strip()


def _digest_agrees(frame: Frame) -> bool:
    """Whether a record is what its digest says; true for one without, or of an unknown kind."""
    name, _, stated = frame.headers.get("warc-block-digest", "").partition(":")
    name = name.strip().lower().replace("-", "")
    if name not in _HASHES:
        return True
    digest = hashlib.new(name, frame.block, usedforsecurity=False).digest()
    stated = stated.strip()
    if len(stated) == 2 * len(digest):
        return stated.lower() == digest.hex()
    return stated.upper().rstrip("=") == base64.b32encode(digest).decode().rstrip("=")


def _as_row(text: _Text) -> dict[str, Any]:
    return {name: getattr(text, name) for name in _Text.__slots__}


def _read_back(waiting: IO[str]) -> Iterator[_Text]:
    for line in waiting:
        yield _Text(**json.loads(line))


def _write(job: WarcJob, name: str, found: _Text, lines: SiteLines, output: JobOutput) -> None:
    text, removed = lines.without(found.host, found.text) if job.site_lines else (found.text, 0)
    output.counts[SITE_LINES] += removed
    if not text.strip():
        return output.drop(SITE_LINES, name, found.number, found.url)
    size = len(text.encode())
    if size > job.max_document_bytes:
        reason = f"{size} bytes, max_document_bytes is {job.max_document_bytes}"
        return output.bad(name, BadRecord(found.number, reason, excerpt(found.url)))
    output.document(_document(job, name, found, text))


def _document(job: WarcJob, name: str, found: _Text, text: str) -> Document:
    group = found.host if job.group_by == "host" else found.url
    metadata: Mapping[str, Any] = {"file": name, "line": found.number, **found.metadata}
    return Document(
        id=document_id(job.source, found.url, text),
        text=text,
        source=job.source,
        group=group,
        split=job.splits.of(group, name),
        url=found.url,
        title=found.title,
        lang=found.lang or job.lang,
        license=found.license or job.license,
        metadata=dict(metadata),
    )
