"""The reader of pages, as sources use it.

    with PageReader(config) as reader:
        page = reader.read(body, url="https://...", charset="utf-8")

The page, or a sentence why there is none. Cost: 50 to 70 pages a CPU-second with trafilatura, 200 with resiliparse
(benchmarks/README.md), and 0.4 s for each start of the child process, which is when the first page comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tasks.collect.encodings import AUTO
from tasks.collect.pages.child import Child
from tasks.collect.pages.config import PageConfig
from tasks.collect.pages.reasons import EMPTY, NOT_HTML
from tasks.collect.unpack import looks_like

MAX_PICTURED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds; fields other than the text are empty where the page does not say them."""

    text: str
    title: str = ""
    lang: str = ""  # ISO 639, as the page says: de
    license: str = ""  # an address or words, as the page links it (rel=license)
    date: str = ""  # of publication, an ISO day
    url: str = ""  # that it was read from, or its canonical one
    repaired: bool = False  # its Unicode
    about: Mapping[str, Any] = field(default_factory=dict)  # of a file: who an e-mail is from, the pages of a PDF


class PageReader:
    """Reads pages in a child process of its own, which is started when the first page comes; a context manager."""

    def __init__(self, config: PageConfig) -> None:
        self._config = config
        self._child = Child(config.seconds, config.max_memory_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(*error)

    def limit(self, ending: str) -> int:
        """The longest file in bytes; those that hold pictures may be longer."""
        return MAX_PICTURED_BYTES if ending in ("pdf", "epub", "docx") else self._config.max_bytes

    def read(self, body: bytes, *, url: str = "", charset: str = "") -> Page | str:
        """The page, or the reason why there is none. `charset` is what the server said of it."""
        if not body.strip(b"\0 \t\r\n\f"):
            return EMPTY
        if len(body) > self._config.max_bytes:
            return f"the page has {len(body):,} bytes, max_bytes is {self._config.max_bytes:,}"
        kind = looks_like(body)
        return f"{NOT_HTML} but .{kind}" if kind else self.read_file("html", body, url=url, charset=charset)

    def read_file(
        self, ending: str, body: bytes, *, url: str = "", charset: str = "", encoding: str = AUTO
    ) -> Page | str:
        """The text of a file with one of the endings DOCUMENT_FORMATS (discover.py), or why there is none.

        `encoding` is that of its source (charset.py).
        """
        request = {
            "read": ending,
            "url": url,
            "charset": charset,
            "encoding": encoding,
            "extractor": self._config.extractor,
            "keep": list(self._config.keep),
        }
        answer = self._child.ask(request, body)
        if isinstance(answer, str):
            return answer
        page = Page(**answer)
        return _repaired(page) if self._config.repair_unicode else page


def _repaired(page: Page) -> Page:
    from tasks.collect.repair import repair_unicode

    text, title = repair_unicode(page.text), repair_unicode(page.title)
    return replace(page, text=text, title=title, repaired=text != page.text)
