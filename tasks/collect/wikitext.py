"""Wikitext, the markup of MediaWiki's pages, as plain text with Markdown headings, lists and code.

mwparserfromhell parses it; what becomes of each part is decided here. Kept: prose, link texts, headings, lists, quotes,
code, and the few templates that stand for words of a sentence (`{{lang|grc|...}}`, `{{convert|5|km}}`). Left out: all
other templates, tables, references, files, categories, formulas, galleries, and then what nothing is left of: headings
without text below, empty list items and brackets. Cost: about 2 MB of wikitext a CPU-second.
"""

import html
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tasks.collect.sections import without_empty_sections

FILE_PREFIXES = frozenset(("file", "image", "media", "category"))  # every wiki knows these beside its own words
_DROPPED_RAW = (  # what MediaWiki takes out up to the next closing tag, whatever is inside, before it parses the rest
    *(
        "ref",
        "references",
        "gallery",
        "math",
        "chem",
        "ce",
        "timeline",
        "imagemap",
        "score",
        "graph",
        "style",
        "script",
    ),
    *("inputbox", "categorytree", "templatedata", "templatestyles", "section", "hiero", "mapframe", "maplink", "rss"),
)
_DROPPED = frozenset((*_DROPPED_RAW, "table", "tr", "td", "th", "caption", "indicator", "noinclude", "includeonly"))
_CODE = ("nowiki", "pre", "syntaxhighlight", "source")
_VERBATIM = frozenset((*_CODE, "code", "tt"))
_BLOCKS = frozenset(("blockquote", "center", "div", "dl", "ol", "p", "poem", "ul"))
_LIST_MARKS = {"*": "* ", "#": "1. ", ":": "", ";": ""}

# Templates that are words of a sentence -> which of the unnamed parameters are the words (-1 is the last).
_WORDS = {
    **dict.fromkeys(("lang", "transl", "transliteration", "tlit", "script", "color", "font color", "abbrlink"), -1),
    **dict.fromkeys(
        ("nowrap", "nobr", "nobold", "small", "big", "smallcaps", "sc", "abbr", "vanchor", "visible anchor"), 0
    ),
    **dict.fromkeys(("sub", "sup", "em", "strong", "ill", "interlanguage link", "tooltip", "wikt-lang", "midsize"), 0),
    **dict.fromkeys(
        ("quote", "blockquote", "cquote", "quotation", "centered pull quote", "poemquote", "as written"), 0
    ),
}
_SIGNS = {"ndash": "–", "spnd": " – ", "snd": " – ", "mdash": "—", "spaced ndash": " – ", "'": "'", "!": "|", "pi": "π"}
_POWERS = {"e3": "thousand", "e6": "million", "e9": "billion"}  # {{convert|101|e6acre}}
_QUOTES = frozenset(("quote", "blockquote", "cquote", "quotation", "centered pull quote", "poemquote"))

_INTERLANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]{2,8})*|simple")
_RAW = re.compile(
    rf"<!--.*?(?:-->|\Z)"
    rf"|<(?P<raw>{'|'.join((*_CODE, *_DROPPED_RAW))})(?=[\s/>])[^<>]*?(?:/>|>(?:.*?</(?P=raw)\s*>)?)",
    re.IGNORECASE | re.DOTALL,
)
_HEADING_LINE = re.compile(r"=.*=\s*")
_TABLE_START, _TABLE_END = re.compile(r"[\s:]*\{\|"), re.compile(r"\s*\|\}(?!\})")
_APOSTROPHES = re.compile(r"'{2,}")  # bold and italic: unbalanced ones are usual, so that nothing is parsed by them
_MAGIC = re.compile(r"__[A-Z]{3,30}__")
_EMPTY_BRACKETS = re.compile(r" ?\((?:[ ,;:·–-]|\u00a0)*\)| ?\[[ ]*\]")
_BRACKET_START = re.compile(r"\((?:[ \u00a0]*[,;:])+[ \u00a0]*")  # "(; born 1815)" where a pronunciation was
_SPACES = re.compile(r"[ \t\u00a0]{2,}")
_SPACE_BEFORE_MARK = re.compile(r"(?<=[^\W\d_]) +(?=[,.;:](?:\s|$))|(?<=[^\s(]) +(?=\))")
_EMPTY_ITEM = re.compile(r"^[ \t]*(?:[*#:;]+|1\.)[ \t]*[.,;:–-]?[ \t]*$", re.MULTILINE)
_NESTED = re.compile(r"^((?:\* |1\. )+)(\* |1\. )", re.MULTILINE)  # items within items: `* * two`
_FENCE = "```"


def text_of(wikitext: str, prefixes: Collection[str] = FILE_PREFIXES) -> str:
    """The text of a page. `prefixes` are the names of its wiki's namespaces of files and categories, in lower case."""
    import mwparserfromhell

    prepared = _without_tables(_RAW.sub(_kept_code, _MAGIC.sub("", wikitext)))
    code = mwparserfromhell.parse(prepared, skip_style_tags=True)
    return _tidied("".join(_rendered(code, frozenset(prefixes) | FILE_PREFIXES)))


def _kept_code(found: re.Match[str]) -> str:
    return found[0] if (found["raw"] or "").lower() in _CODE else ""


def _without_tables(wikitext: str) -> str:
    """Without tables and those inside them; one that is never closed ends at the next heading, as readers see it."""
    kept, depth = [], 0
    for line in wikitext.split("\n"):
        if _TABLE_START.match(line):
            depth += 1
        elif depth and _TABLE_END.match(line):
            depth -= 1
            kept.append(line[_TABLE_END.match(line).end() :])  # type: ignore[union-attr]
        elif not depth or _HEADING_LINE.fullmatch(line):
            depth = 0
            kept.append(line)
    return "\n".join(kept)


def _rendered(code: Any, prefixes: frozenset[str]) -> Iterator[str]:
    from mwparserfromhell import nodes

    for node in code.nodes if code is not None else ():
        if isinstance(node, nodes.Text):
            yield node.value
        elif isinstance(node, nodes.Wikilink):
            yield from _link(node, prefixes)
        elif isinstance(node, nodes.Template):
            yield from _template(node, prefixes)
        elif isinstance(node, nodes.Tag):
            yield from _tag(node, prefixes)
        elif isinstance(node, nodes.Heading):
            title = " ".join("".join(_rendered(node.title, prefixes)).split())
            yield f"\n\n{'#' * max(2, node.level)} {title}\n\n" if title else "\n\n"
        elif isinstance(node, nodes.ExternalLink):
            if node.title is not None:
                yield from _rendered(node.title, prefixes)
            elif not node.brackets:
                yield str(node.url)
        elif isinstance(node, nodes.HTMLEntity):
            yield html.unescape(str(node))
        elif isinstance(node, nodes.Argument):
            yield from _rendered(node.default, prefixes)


def _link(link: Any, prefixes: frozenset[str]) -> Iterator[str]:
    title = str(link.title).strip()
    prefix = title.partition(":")[0].strip().lower() if ":" in title else ""
    if prefix in prefixes or (prefix and link.text is None and _INTERLANGUAGE.fullmatch(prefix)):
        return
    if link.text is not None:
        yield from _rendered(link.text, prefixes)
    else:
        yield from _rendered_title(link.title, prefixes)


def _rendered_title(title: Any, prefixes: frozenset[str]) -> Iterator[str]:
    shown = "".join(_rendered(title, prefixes)).strip().removeprefix(":")
    yield shown.replace("_", " ")


def _template(template: Any, prefixes: frozenset[str]) -> Iterator[str]:
    name = " ".join(str(template.name).replace("_", " ").split()).lower()
    if name in _SIGNS:
        yield _SIGNS[name]
        return
    place = 0 if re.fullmatch(r"lang-[a-z-]+", name) else _WORDS.get(name)
    unnamed = [parameter.value for parameter in template.params if not parameter.showkey]
    if name in _QUOTES and template.has("text"):
        unnamed = [template.get("text").value]
    if name in ("convert", "cvt"):
        yield _converted(["".join(_rendered(value, prefixes)).strip() for value in unnamed])
    elif place is not None and unnamed:
        shown = _rendered(unnamed[place], prefixes)
        yield f"\n\n{''.join(shown).strip()}\n\n" if name in _QUOTES else "".join(shown).strip()


def _converted(values: list[str]) -> str:
    """`{{convert|5|to|7|km|mi}}` -> `5 to 7 km`: the quantity as it was measured."""
    words = {"-": "–", "–": "–", "to": " to ", "and": " and ", "by": " by ", "or": " or ", "x": " × "}
    if len(values) >= 4 and values[1] in words:
        return f"{values[0]}{words[values[1]]}{values[2]} {_unit(values[3])}"
    return " ".join((values[0], _unit(values[1]))) if len(values) > 1 else "".join(values)


def _unit(unit: str) -> str:
    return next((f"{word} {unit.removeprefix(sign)}" for sign, word in _POWERS.items() if unit.startswith(sign)), unit)


def _tag(tag: Any, prefixes: frozenset[str]) -> Iterator[str]:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED:
        return
    if tag.wiki_markup in _LIST_MARKS:
        yield _LIST_MARKS[tag.wiki_markup]
    elif name in ("br", "hr"):
        yield "\n"
    elif name in _VERBATIM:
        yield from _code(name, html.unescape(str(tag.contents or "")))
    elif name == "li":
        yield from ("\n* ", *_rendered(tag.contents, prefixes))
    elif name in _BLOCKS:
        yield from ("\n\n", *_rendered(tag.contents, prefixes), "\n\n")
    else:
        yield from _rendered(tag.contents, prefixes)


def _code(name: str, contents: str) -> Iterator[str]:
    if name in ("pre", "syntaxhighlight", "source") and "\n" in contents:
        fence = _FENCE if _FENCE not in contents else "~~~"
        yield f"\n\n{fence}\n{contents.strip(chr(10))}\n{fence}\n\n"
    else:
        yield contents


def _tidied(text: str) -> str:
    """Without what the parts that were left out leave behind; code blocks are not touched."""
    pieces = re.split(r"(^(?:```|~~~)\n.*?^(?:```|~~~)$)", text, flags=re.MULTILINE | re.DOTALL)
    pieces[::2] = [_tidied_prose(piece) for piece in pieces[::2]]
    blocks = [
        line for piece in pieces for line in ([piece] if piece.startswith((_FENCE, "~~~")) else piece.split("\n"))
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(without_empty_sections(blocks))).strip("\n")


def _tidied_prose(text: str) -> str:
    text = _APOSTROPHES.sub("", text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = _BRACKET_START.sub("(", text)
    text = _SPACES.sub(" ", text)
    text = _SPACE_BEFORE_MARK.sub("", text)
    text = _EMPTY_ITEM.sub("", text)
    return _NESTED.sub(_indented, "\n".join(line.strip() for line in text.split("\n")))


def _indented(found: re.Match[str]) -> str:
    return "  " * found[1].count(" ") + found[2]


def read_wikitext(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The answer of the child process (pages/worker.py) to a page's wikitext."""
    return {"text": text_of(body.decode("utf-8"), request["prefixes"])}
