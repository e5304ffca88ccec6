"""A strict reader of the HTML that a report may hold: what is open must be closed, and nothing may be loaded."""

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "br", "hr", "img", "input"}
SELF_CLOSED = {"line", "rect", "circle", "path"}  # of SVG
LOADING = {"script", "img", "iframe", "object", "embed", "audio", "video", "source", "image", "use", "base", "form"}


class Checked(HTMLParser):
    """The elements of a page; AssertionError with the line of what is wrong."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # (innermost element, text)
        assert page.startswith("<!doctype html>")
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"line {self.getpos()}: an attribute of {tag} is given twice"
        assert all(value is not None for _, value in attrs), f"line {self.getpos()}: {tag} {attrs}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SELF_CLOSED, f"line {self.getpos()}: {tag} cannot close itself"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"line {self.getpos()}: </{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"line {self.getpos()}: a comment: {data[:80]}")

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All that is read, white space as single spaces."""
        return " ".join(" ".join(text for element, text in self.texts if element != "style").split())

    def check_nothing_is_loaded(self) -> None:
        """No element that fetches, no handler, no address but those of links that a person may follow."""
        for tag, attributes in self.elements:
            assert tag not in LOADING, (tag, attributes)
            assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in attributes), (
                attributes
            )
            target = attributes.get("href", "#")
            allowed = ("#", "http://", "https://") if tag == "a" else ("data:,", "#")
            assert target.startswith(allowed), (tag, attributes)

    def check_structure(self) -> None:
        """One h1, no level of heading left out, ids once, a caption for each table, words for each picture."""
        levels = [int(tag[1]) for tag, _ in self.elements if tag in ("h1", "h2", "h3", "h4")]
        assert levels.count(1) == 1 and levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert {link["href"][1:] for link in self.all("a") if link["href"].startswith("#")} <= set(ids)
        assert len(self.all("table")) == len(self.all("caption"))
        for svg in self.all("svg"):
            inner = svg.get("class") in (None, "at")
            assert inner or svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"]), svg
