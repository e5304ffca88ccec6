"""Dumps of MediaWiki (export-0.3 and later) -> pages, one at a time, in bounded memory.

The XML is a stranger's: expat reads it without entities of the file's own and without anything from outside, and a
document type, which no dump has, ends the reading. UTF-8 and UTF-16 are read by what the file says. Cost: 40 MB of XML
a CPU-second, and unpacking (bzip2: 25 MB).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from tasks.collect.records import BadRecord, excerpt, too_long
from tasks.collect.unpack import BrokenStream

ARTICLES = "0"  # the namespace
FILES_AND_CATEGORIES = ("-2", "6", "14")
MOST_DEPTH = 20  # of elements: a dump has 6
MOST_TAG_BYTES = 4 * 2**20  # that expat holds of one tag or comment
MOST_FIELD_CHARACTERS = 4096  # of a title, a time, a name
_SHORT = frozenset(("title", "ns", "id", "timestamp", "model", "sitename", "dbname", "base", "namespace"))
_TITLE_SAFE = ";@$!*(),/~:"  # MediaWiki leaves these as they are


@dataclass(slots=True)
class Site:
    """What a dump says of its wiki before the first page."""

    lang: str = ""
    name: str = ""
    database: str = ""
    base: str = ""  # the address of its main page
    namespaces: dict[str, str] = field(default_factory=dict)  # number -> name

    def address(self, title: str) -> str:
        """Where a page is on the web; empty where the dump does not say where its wiki is."""
        folder, slash, _ = self.base.rpartition("/")
        if not slash or not re.match(r"https?://", self.base):
            return ""
        return f"{folder}/{quote(title.replace(' ', '_'), safe=_TITLE_SAFE)}"

    @property
    def unread(self) -> frozenset[str]:
        """The names, in lower case, of the namespaces of files and categories."""
        return frozenset(name.lower() for key, name in self.namespaces.items() if key in FILES_AND_CATEGORIES and name)


@dataclass(slots=True)
class WikiPage:
    """A page with its last revision in the dump; `line` is where it begins. `text` is None where it is too long."""

    line: int
    title: str = ""
    namespace: str = ""
    identity: str = ""
    redirect: bool = False
    revision: str = ""
    timestamp: str = ""
    model: str = ""
    text: str | None = ""


def read_dump(blocks: Iterable[bytes], limit: int) -> Iterator[tuple[Site, WikiPage] | BadRecord]:
    """The pages of a dump with its site, in order; a text of more than `limit` characters makes a bad record.

    What is cut, or is not XML, ends with a BadRecord that says that the rest is lost.
    """
    parser = _Parser(limit)
    try:
        for block in blocks:
            parser.feed(block)
            yield from parser.take()
        parser.feed(b"", last=True)
    except BrokenStream as broken:
        yield from parser.take()
        yield BadRecord(parser.line, str(broken), rest_lost=True)
        return
    if not parser.is_dump:
        yield BadRecord(1, "not a dump of MediaWiki: it does not begin with <mediawiki>", rest_lost=True)


class _Parser:
    """expat, told what to make of the elements of a dump; pages that are whole wait in `take`."""

    def __init__(self, limit: int) -> None:
        from xml.parsers import expat

        self._expat = expat.ParserCreate(namespace_separator=" ")
        self._error = expat.ExpatError
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse
        self._limit = limit
        self._site = Site()
        self._page: WikiPage | None = None
        self._path: list[str] = []
        self._pieces: list[str] = []
        self._length = 0
        self._key = ""
        self._fed = 0
        self._waiting: list[tuple[Site, WikiPage] | BadRecord] = []

    @property
    def is_dump(self) -> bool:
        return bool(self._fed and self._site_seen)

    _site_seen = False

    @property
    def line(self) -> int:
        """The line that was read last; of a page that is not whole, its first."""
        return self._page.line if self._page else self._expat.CurrentLineNumber

    def feed(self, block: bytes, last: bool = False) -> None:
        """Read on; BrokenStream for what is not well-formed, or no dump."""
        try:
            self._expat.Parse(block, last)
        except self._error as error:
            cut = last and "no element found" in str(error)
            why = "the dump ends within an element: the file was cut" if cut else f"not well-formed XML ({error})"
            raise BrokenStream(why) from error
        self._fed += len(block)
        if self._fed - max(0, self._expat.CurrentByteIndex) > MOST_TAG_BYTES and not last:
            raise BrokenStream(f"a tag or comment of more than {MOST_TAG_BYTES // 2**20} MiB: this is not a dump")

    def take(self) -> list[tuple[Site, WikiPage] | BadRecord]:
        """The pages that have become whole."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _refuse(self, *_: object) -> None:
        raise BrokenStream("the XML declares a document type or entities, which no dump does: it is not read")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        if not self._path:
            if name != "mediawiki":
                raise BrokenStream(f"not a dump of MediaWiki: it begins with <{name[:40]}>")
            self._site_seen = True
            self._site.lang = attributes.get("http://www.w3.org/XML/1998/namespace lang", "")
        if len(self._path) >= MOST_DEPTH:
            raise BrokenStream(f"elements within elements, more than {MOST_DEPTH} deep: this is not a dump")
        self._path.append(name)
        self._pieces, self._length = [], 0
        self._key = attributes.get("key", "")
        if self._path == ["mediawiki", "page"]:
            self._page = WikiPage(self._expat.CurrentLineNumber)
        elif self._page is not None and name == "redirect":
            self._page.redirect = True
        elif self._page is not None and name == "revision":
            self._page.text = ""

    def _characters(self, data: str) -> None:
        name = self._path[-1]
        if name != "text" and name not in _SHORT:
            return
        self._length += len(data)
        if self._length <= (self._limit if name == "text" else MOST_FIELD_CHARACTERS):
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def _end(self, tag: str) -> None:
        *above, name = self._path
        value = "".join(self._pieces)
        if self._page is None:
            self._of_site(name, value)
        elif name == "page":
            self._waiting.append(self._checked(self._page))
            self._page = None
        else:
            self._of_page(self._page, above[-1], name, value)
        self._path.pop()
        self._pieces, self._length = [], 0

    def _of_site(self, name: str, value: str) -> None:
        if name == "namespace" and len(self._site.namespaces) < 1000:
            self._site.namespaces[self._key] = value
        elif name == "sitename":
            self._site.name = value
        elif name == "dbname":
            self._site.database = value
        elif name == "base":
            self._site.base = value

    def _of_page(self, page: WikiPage, above: str, name: str, value: str) -> None:
        if above == "page" and name in ("title", "ns", "id"):
            setattr(page, {"title": "title", "ns": "namespace", "id": "identity"}[name], value)
        elif above == "revision" and name in ("id", "timestamp", "model"):
            setattr(page, {"id": "revision"}.get(name, name), value)
        elif above == "revision" and name == "text":
            page.text = value if self._length <= self._limit else None

    def _checked(self, page: WikiPage) -> tuple[Site, WikiPage] | BadRecord:
        if not page.title:
            return BadRecord(page.line, "a page without a title", excerpt(page.text or ""))
        if page.text is None:
            return BadRecord(page.line, too_long(self._limit), excerpt(page.title))
        return self._site, page
