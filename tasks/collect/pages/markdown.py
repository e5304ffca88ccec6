"""A tree of blocks -> Markdown: headings, lists, code and tables as far as they are kept, all else as paragraphs.

It reads the names of trafilatura's trees (head, list, item, row, cell, lb) and of HTML alike. Emphasis and links
become plain text, and nothing is escaped: a star in a sentence stays a star.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

_HEADINGS = ("head", "h1", "h2", "h3", "h4", "h5", "h6")
_LISTS = ("list", "ul", "ol", "dl")
_ITEMS = ("item", "li", "dt", "dd")
_ROWS = ("row", "tr")
_CELLS = ("cell", "td", "th")
_BREAKS = ("lb", "br")
_CODE = ("code", "pre")
_BLOCKS = ("p", "div", "quote", "blockquote", "section", "article", "body", "main", "html", "figure", "figcaption")
BREAK = "\u2028"  # a line break in the text of a block
_SPACE = re.compile(r"\s+")


def to_markdown(tree: Any, keep: Collection[str]) -> str:
    """The text of a tree, its blocks apart by an empty line. Marks line breaks in the tree, so it is used up."""
    writer = _Writer(keep)
    writer.inside(tree)
    return "\n\n".join(writer.finished())


class _Writer:
    """The blocks so far and the text of the one under way."""

    def __init__(self, keep: Collection[str]) -> None:
        self._keep = keep
        self._blocks: list[str] = []
        self._line: list[str] = []

    def finished(self) -> list[str]:
        self._end_block()
        return self._blocks

    def inside(self, element: Any) -> None:
        """The text and children of an element."""
        self._line.append(element.text or "")
        for child in element:
            if isinstance(child.tag, str):
                self._element(child)
            self._line.append(child.tail or "")

    def _element(self, element: Any) -> None:
        tag = element.tag
        if tag in _BREAKS:
            self._line.append(BREAK)
        elif tag in _HEADINGS:
            self._block(self._heading(element))
        elif tag in _LISTS:
            self._block("\n".join(self._items(element)))
        elif tag == "table":
            self._block("\n".join(self._rows(element)))
        elif tag in _CODE and (tag == "pre" or "\n" in "".join(element.itertext()).strip()):
            self._block(self._code(element))
        elif tag == "code":
            code = " ".join("".join(element.itertext()).split())
            self._line.append(f"`{code}`" if code and "code" in self._keep else code)
        elif tag in _BLOCKS:
            self._end_block()
            self.inside(element)
            self._end_block()
        else:
            self.inside(element)

    def _heading(self, element: Any) -> str:
        level = (element.get("rend") or element.tag)[-1]
        text = " ".join("".join(element.itertext()).split())
        marks = "#" * int(level) if level in "123456" else "##"
        return f"{marks} {text}" if text and "headings" in self._keep else text

    def _items(self, element: Any) -> Iterator[str]:
        ordered = element.tag == "ol" or element.get("rend") == "ol"
        number = 0
        for item in element:
            if item.tag in _LISTS:  # a list right in a list
                yield from (f"  {line}" for line in self._items(item))
            if item.tag not in _ITEMS:
                continue
            number += 1
            mark = f"{number}. " if ordered else "- "
            if "lists" not in self._keep:
                mark = ""
            writer = _Writer(self._keep)
            writer.inside(item)
            lines = "\n".join(writer.finished()).splitlines()
            for index, line in enumerate(lines):
                yield (" " * len(mark) if index else mark) + line

    def _rows(self, element: Any) -> Iterator[str]:
        if "tables" not in self._keep:
            return
        rows = [
            [_one_line(cell).replace("|", "\\|") for cell in row if cell.tag in _CELLS] for row in element.iter(*_ROWS)
        ]
        rows = [row for row in rows if any(row)]
        width = max(map(len, rows), default=0)
        for index, row in enumerate(rows):
            yield f"| {' | '.join(row + [''] * (width - len(row)))} |"
            if index == 0:
                yield f"|{'---|' * width}"

    def _code(self, element: Any) -> str:
        for line_break in element.iter(*_BREAKS):
            line_break.text = "\n"
        code = "".join(element.itertext()).strip("\r\n").rstrip()
        return f"```\n{code}\n```" if code.strip() and "code" in self._keep else code

    def _block(self, text: str) -> None:
        """End the block under way, and add one."""
        self._end_block()
        if text.strip():
            self._blocks.append(text)

    def _end_block(self) -> None:
        lines = (_SPACE.sub(" ", line).strip() for line in "".join(self._line).split(BREAK))
        text = "\n".join(line for line in lines if line)
        self._line.clear()
        if text:
            self._blocks.append(text)


def _one_line(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())
