"""Word files (.docx) -> their text: headings, lists and tables as Markdown by choice. Runs in the child process."""

import io
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tasks.collect.pages.packed import Unreadable, opened

_HEADING = re.compile(r"(?:Heading|heading|Überschrift|Titre|Title) ?(\d?)$")


def read_docx(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    import docx
    from docx.opc.exceptions import OpcError

    if body.startswith(b"\xd0\xcf\x11\xe0"):  # OLE: how Office protects its files, and how it saved old ones
        return "no text: protected by a password, or an old .doc"
    try:
        with opened(body):
            document = docx.Document(io.BytesIO(body))
    except Unreadable as fault:
        return str(fault)
    except (OpcError, KeyError, ValueError, zipfile.BadZipFile) as error:
        return f"not readable as .docx ({type(error).__name__})"
    text = "\n\n".join(_blocks(document, request["keep"]))
    if not text.strip():
        return "no text"
    said = document.core_properties
    return {
        "text": text,
        "title": " ".join((said.title or "").split()),
        "lang": (said.language or "").partition("-")[0].lower(),
        "date": said.created.date().isoformat() if said.created else "",
    }


def _blocks(holder: Any, keep: Collection[str]) -> Iterator[str]:
    """Paragraphs and tables in order; the lines of a list are one block."""
    items: list[str] = []
    for block in holder.iter_inner_content():
        if hasattr(block, "rows"):
            text, item = "\n".join(_rows(block, keep)), False
        else:
            text, item = _paragraph(block, keep)
        if items and not item:
            yield "\n".join(items)
            items.clear()
        if text and item:
            items.append(text)
        elif text:
            yield text
    if items:
        yield "\n".join(items)


def _paragraph(paragraph: Any, keep: Collection[str]) -> tuple[str, bool]:
    """The text of a paragraph, and whether it is a line of a list."""
    text = paragraph.text.strip()
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    heading = _HEADING.match(style)
    if heading and text:
        marks = "#" * min(6, int(heading[1] or 1))
        return (f"{marks} {text}" if "headings" in keep else text), False
    properties = paragraph._p.pPr
    numbered = style.startswith("List") or (properties is not None and properties.numPr is not None)
    if not numbered:
        return text, False
    level = (
        properties.numPr.ilvl.val
        if properties is not None and properties.numPr is not None and properties.numPr.ilvl is not None
        else 0
    )
    mark = "1. " if style.startswith("List Number") else "- "
    return (f"{'  ' * level}{mark}{text}" if text and "lists" in keep else text), True


def _rows(table: Any, keep: Collection[str]) -> Iterator[str]:
    if "tables" not in keep:
        return
    seen: set[Any] = set()
    for index, row in enumerate(table.rows):
        cells = [_cell(cell, seen) for cell in row.cells]
        yield f"| {' | '.join(cells)} |"
        if index == 0:
            yield f"|{'---|' * len(cells)}"


def _cell(cell: Any, seen: set[Any]) -> str:
    """The text of a cell; one that goes over several rows or columns has it in the first, and is there for each."""
    if cell._tc in seen:
        return ""
    seen.add(cell._tc)
    return " ".join(cell.text.split()).replace("|", "\\|")
