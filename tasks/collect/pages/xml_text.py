"""XML documents -> their text, a block for each element that holds text itself. Runs in the child process.

Of TEI (texts of libraries and archives) the header gives title, language, licence and day, and the text is `<text>`.
Entities from outside are never read, and those of the file are expanded within the parser's limits.
"""

import re
from collections.abc import Iterator, Mapping
from html.entities import name2codepoint
from typing import Any

from lxml import etree

from tasks.collect.pages.charset import decoded_page, guessed

_PAGE = re.compile(r"<(?:!doctype )?html\b", re.IGNORECASE)  # that is named as XML and is none
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_ENTITY = re.compile(r"&(\w+);")
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_XHTML = "{http://www.w3.org/1999/xhtml}html"


def read_xml(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    text, encoding = decoded_page(body, request["charset"])
    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(_declared_nowhere(text), parser=parser)
    except etree.XMLSyntaxError as error:
        if any(fault.type_name == "ERR_NO_MEMORY" for fault in error.error_log):
            raise MemoryError from error
        if _PAGE.search(text[:4096]):
            from tasks.collect.pages.main_text import read_page

            return read_page(request, body)
        return f"malformed XML at line {error.lineno}: {error.msg}"[:200]
    if root.tag in (_XHTML, "html"):
        from tasks.collect.pages.main_text import read_page

        return read_page(request, body)
    if _name(root) == "mediawiki":
        return "a dump of MediaWiki: read it with collect.wikipedia"
    header, text = _part(root, "teiHeader"), _part(root, "text")
    blocks = list(_blocks(text if header is not None and text is not None else root))
    if not blocks:
        return "no text"
    return {"text": "\n\n".join(blocks), **_said(root, header), "about": guessed(encoding)}


def _declared_nowhere(text: str) -> bytes:
    """In UTF-8 without a declaration, since it is decoded already, and with HTML's entities, which feeds use, written
    out, where the file defines none itself."""
    text = _DECLARATION.sub("", text, count=1)
    if "<!ENTITY" not in text:
        text = _ENTITY.sub(_letter, text)
    return text.encode("utf-8", "replace")


def _letter(found: re.Match[str]) -> str:
    if found[1] in ("amp", "lt", "gt", "quot", "apos") or found[1] not in name2codepoint:
        return found[0]
    return chr(name2codepoint[found[1]])


def _blocks(element: Any) -> Iterator[str]:
    """Text of each element that holds some itself, with all inside it; else of its children in turn."""
    own = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in own):
        yield " ".join("".join(element.itertext()).split())
        return
    for child in element:
        if isinstance(child.tag, str):
            yield from _blocks(child)


def _said(root: Any, header: Any) -> dict[str, str]:
    text = _part(root, "text")
    lang = root.get(XML_LANG) or (text.get(XML_LANG) if text is not None else "") or ""
    said = {"lang": lang.partition("-")[0].lower()}
    if header is None:
        return said
    titles = header.xpath("(.//*[local-name()='titleStmt']/*[local-name()='title'])[1]")
    licences = header.xpath(".//*[local-name()='licence']")
    days = header.xpath(".//*[local-name()='publicationStmt']/*[local-name()='date']/@when")
    said["title"] = " ".join("".join(titles[0].itertext()).split()) if titles else ""
    said["license"] = (
        (licences[0].get("target") or " ".join("".join(licences[0].itertext()).split())) if licences else ""
    )
    said["date"] = days[0] if days and len(days[0]) == 10 else ""
    return said


def _part(root: Any, name: str) -> Any:
    found = root.xpath(f"./*[local-name()='{name}']")
    return found[0] if found else None


def _name(element: Any) -> str:
    return etree.QName(element).localname
