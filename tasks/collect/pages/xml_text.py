"""XML documents -> their text, a block for each element that holds text itself. Runs in the child process.

Of TEI (texts of libraries and archives) the header gives title, language, licence and day, and the text is `<text>`.
Entities from outside are never read, and those of the file are expanded within the parser's limits.
"""

import re
from collections.abc import Iterator, Mapping
from html.entities import name2codepoint
from typing import Any

from lxml import etree, html

from tasks.collect.pages.charset import decoded_page, guessed
from tasks.collect.pages.markdown import to_markdown

_TAGS = re.compile(r"<!--.*?-->|<!\[CDATA\[|<[^<>]*>", re.DOTALL)  # and what is no text between them
_AMPERSAND = re.compile(r"&(?!#\d+;|#x[0-9a-fA-F]+;|\w+;)")  # that begins nothing, as in an address
_EXPLOSIONS = ("ERR_NO_MEMORY", "ERR_RESOURCE_LIMIT", "ERR_ENTITY_LOOP")
LEAST_RECOVERED = 0.95  # of the letters of a malformed file
FEEDS = ("rss", "feed", "RDF")  # RSS, Atom, RSS 1.0
_OF_HTML = ("title", "description", "encoded", "summary")  # elements of RSS that hold HTML as text
_MARKDOWN = "llmill-markdown"  # our attribute of elements whose text has lines and blocks of its own
_ESCAPED = re.compile(r"<[a-zA-Z!/][^<>]*>|&(?:#\d+|#x[0-9a-fA-F]+|\w+);")
_PAGE = re.compile(r"<(?:!doctype )?html\b", re.IGNORECASE)  # that is named as XML and is none
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_ENTITY = re.compile(r"&(\w+);")
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_XHTML = "{http://www.w3.org/1999/xhtml}html"


def read_xml(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    text, encoding = decoded_page(body, request["charset"], request["encoding"])
    damage = ""
    try:
        root = etree.fromstring(_declared_nowhere(text), parser=_parser())
    except etree.XMLSyntaxError as error:
        if any(fault.type_name == "ERR_NO_MEMORY" for fault in error.error_log):
            raise MemoryError from error
        if _PAGE.search(text[:4096]):
            from tasks.collect.pages.main_text import read_page

            return read_page(request, body)
        damage = f"malformed XML at line {error.lineno}: {(error.msg or '').partition(chr(10))[0]}"[:200]
        root = _recovered(text)
        if root is None:
            return damage
    if root.tag in (_XHTML, "html"):
        from tasks.collect.pages.main_text import read_page

        return read_page(request, body)
    if _name(root) == "mediawiki":
        return "a dump of MediaWiki: read it with collect.wikipedia"
    header, text = _part(root, "teiHeader"), _part(root, "text")
    if _name(root) in FEEDS:
        _unescape(root, request["keep"])
    blocks = list(_blocks(text if header is not None and text is not None else root))
    if not blocks:
        return "no text"
    about = guessed(encoding) | ({"damaged": damage} if damage else {})
    return {"text": "\n\n".join(blocks), **_said(root, header), "about": about}


def _parser(recover: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities="internal",
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        recover=recover,
    )


def _recovered(text: str) -> Any:
    """The root of malformed XML, as far as its parser can go on; None where that leaves out some of the text.

    What an ampersand or a missing end spoils is a word or a tag. Files with entities of their own are not tried.
    """
    if "<!ENTITY" in text:
        return None
    if text.rfind("<![CDATA[") > text.rfind("]]>"):
        text += "]]>"
    parser = _parser(recover=True)
    root = etree.fromstring(_declared_nowhere(_AMPERSAND.sub("&amp;", text)), parser=parser)
    if root is None or any(fault.type_name in _EXPLOSIONS for fault in parser.error_log):
        return None
    wanted, kept = (_letters(one) for one in (_TAGS.sub("", text), "".join(root.itertext())))
    return root if kept and kept >= LEAST_RECOVERED * wanted else None


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


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
    if element.get(_MARKDOWN) is not None and element.text.strip():
        yield element.text
        return
    own = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in own):
        yield " ".join("".join(element.itertext()).split())
        return
    for child in element:
        if isinstance(child.tag, str):
            yield from _blocks(child)


def _unescape(feed: Any, keep: list[str]) -> None:
    """Make the HTML that a feed holds as text (RSS 2.0: description; Atom: type="html") the text of that HTML."""
    for element in feed.iter():
        if not isinstance(element.tag, str) or len(element) or not _ESCAPED.search(element.text or ""):
            continue
        kind = element.get("type", "html" if _name(feed) != "feed" else "text")
        if kind == "html" and (_name(feed) == "feed" or _name(element) in _OF_HTML):
            inner = html.fragment_fromstring(element.text, create_parent="div")
            element.text = to_markdown(inner, keep)
            element.set(_MARKDOWN, "")


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
