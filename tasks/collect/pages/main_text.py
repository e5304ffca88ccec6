"""The main text of a page and what the page says of itself. Runs in the child process (worker.py).

Cost and exactness of both extractors: benchmarks/README.md.
"""

import re
from collections.abc import Mapping
from typing import Any

from lxml import etree, html
from trafilatura import bare_extraction
from trafilatura.utils import repair_faulty_html

from tasks.collect.pages.charset import decoded_page, guessed
from tasks.collect.pages.markdown import BREAK, to_markdown
from tasks.collect.pages.page_facts import facts_of
from tasks.collect.pages.reasons import EMPTY, NO_TEXT, NOT_HTML

TOO_DEEP = "its elements are nested too deep"
_TAG = re.compile(
    r"<(?:!doctype|html|head|body|title|meta|div|p|a|h[1-6]|table|br|span|article|section|ul|pre)\b", re.I
)
_DATES = {"original_date": True, "extensive_search": False, "max_date": "2100-01-01"}  # not today: it would change


def read_page(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page (reader.py), or the reason why there is none."""
    text, encoding = decoded_page(body, request["charset"], request["encoding"])
    if not text.strip():
        return EMPTY
    if not _TAG.search(text):
        return NOT_HTML
    tree = _parsed(text)
    if isinstance(tree, str):
        return tree
    facts = facts_of(tree, request["url"])
    extract = _by_resiliparse if request["extractor"] == "resiliparse" else _by_trafilatura
    found = extract(text, tree, request["keep"])
    if not found.strip():
        return NO_TEXT
    return {
        "text": found,
        "title": facts.title,
        "lang": facts.lang,
        "license": facts.license,
        "date": facts.date,
        "url": facts.url,
        "about": guessed(encoding),
    }


def _parsed(text: str) -> Any:
    """The tree of a page, or why it is not whole: the parser leaves out what it has no room for, and goes on."""
    parser = html.HTMLParser(
        encoding="utf-8",
        huge_tree=True,
        collect_ids=False,
        default_doctype=False,
        remove_comments=True,
        remove_pis=True,
    )
    data = repair_faulty_html(text, text[:50].lower()).encode("utf-8", "replace")
    try:
        tree: Any = html.document_fromstring(data, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        tree = NOT_HTML
    faults = {fault.type_name for fault in parser.error_log}
    if "ERR_NO_MEMORY" in faults:
        raise MemoryError
    return TOO_DEEP if "ERR_RESOURCE_LIMIT" in faults else tree


def _by_trafilatura(text: str, tree: Any, keep: list[str]) -> str:
    document: Any = bare_extraction(
        tree,
        fast=True,
        include_comments=False,
        include_tables="tables" in keep,
        include_formatting=True,
        deduplicate=False,
        date_extraction_params=_DATES,
    )
    return "" if document is None else to_markdown(document.body, keep)


def _by_resiliparse(text: str, tree: Any, keep: list[str]) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    found = extract_plain_text(
        text,
        preserve_formatting="minimal_html",
        main_content=True,
        alt_texts=False,
        comments=False,
        post_meta=False,
    )
    blocks = html.fragment_fromstring(found, create_parent="div")
    blocks.text = _lines(blocks.text)  # what it leaves without an element, it parts by lines
    for block in blocks:
        block.tail = _lines(block.tail)
    return to_markdown(blocks, keep)


def _lines(text: str | None) -> str:
    return (text or "").replace("\n", BREAK)
