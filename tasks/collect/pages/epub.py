"""EPUB books -> their text, chapters in the order of the book's spine. Runs in the child process.

A book is one document: chapters of one book belong to one split, and a text that goes on over chapters is what a long
context is learned from. Chapters are read whole, since a book has no menus around its text.
"""

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from lxml import etree, html

from tasks.collect.encodings import ASK, AUTO
from tasks.collect.pages.charset import page_text
from tasks.collect.pages.markdown import to_markdown
from tasks.collect.pages.packed import Unreadable, opened

_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html")


def read_epub(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    try:
        with opened(body) as book:
            if "META-INF/encryption.xml" in book.namelist() and b"EncryptedData" in book.read(
                "META-INF/encryption.xml"
            ):
                return "no text: protected"
            package = _package(book)
            chapters = list(_chapters(book, package, request["keep"], request["encoding"] == ASK))
            tree = _xml(book.read(package))
    except Unreadable as fault:
        return str(fault)
    except (KeyError, IndexError, etree.XMLSyntaxError) as error:
        return f"not readable as .epub ({str(error)[:100]})"
    text = "\n\n".join(filter(None, chapters))
    if not text.strip():
        return "no text"
    return {
        "text": text,
        "title": _said(tree, "title"),
        "lang": _said(tree, "language").partition("-")[0].lower(),
        "license": _said(tree, "rights"),
        "date": _said(tree, "date")[:10],
        "about": {"chapters": len(chapters)},
    }


def _xml(data: bytes) -> Any:
    return etree.fromstring(data, parser=etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))


def _package(book: zipfile.ZipFile) -> str:
    """The name of the file that lists the book."""
    return str(_xml(book.read(_CONTAINER)).xpath("//*[local-name()='rootfile']/@full-path")[0])


def _chapters(book: zipfile.ZipFile, package: str, keep: list[str], ask: bool) -> Iterator[str]:
    tree = _xml(book.read(package))
    items = {
        item.get("id"): item
        for item in tree.xpath("//*[local-name()='manifest']/*[local-name()='item']")
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split()
    }
    for identity in tree.xpath("//*[local-name()='spine']/*[local-name()='itemref']/@idref"):
        if identity not in items:
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(items[identity].get("href"))))
        parser = html.HTMLParser(encoding="utf-8", huge_tree=True)
        try:
            chapter = html.document_fromstring(_decoded(book.read(name), ask), parser=parser)
        except etree.ParserError:  # an empty one, such as the back of a title
            continue
        for tag in chapter.xpath("//head | //script | //style"):
            tag.drop_tree()
        yield to_markdown(chapter, keep)


def _decoded(chapter: bytes, ask: bool) -> bytes:
    """In UTF-8. What a source states of its files is not of books: theirs is UTF-8 or what the chapter declares."""
    return page_text(chapter, encoding=ASK if ask else AUTO).encode()


def _said(tree: Any, name: str) -> str:
    found = tree.xpath(f"//*[local-name()='metadata']/*[local-name()='{name}']")
    return " ".join("".join(found[0].itertext()).split()) if found else ""
