"""Docstring -> English prose: the extraction step of the `docstrings` source, as for HTML elsewhere.

A docstring goes in, its paragraphs come out, one line of plain words each. By paragraph:

- sections that list things (Parameters, Returns, Examples, See Also, ...) in NumPy's, Google's, Sphinx' or
  Epytext's form are left out with their contents; notes, warnings and other headings are kept;
- doctests, literal blocks, lists, definitions, tables and directives are left out;
- markup inside a line becomes words: ``code``, :class:`role`, `text <target>`_, **bold**, footnote marks;
- what is left must read like a sentence: at least `MIN_LETTERS` letters and spaces, a stop-word in all but short
  paragraphs, a capital at its start and a full stop at its end. The introduction of something that was left out
  ("For example:") goes with it.

The layouts: numpydoc's and Google's style guides, docutils' reStructuredText specification.
"""

import re
from dataclasses import dataclass
from inspect import cleandoc

MIN_LETTERS = 0.82  # share of a paragraph's bytes that are ASCII letters or spaces
MIN_WORDS_FIRST, MIN_WORDS = 3, 6  # words of a docstring's first paragraph, of every other
WORDS_WITHOUT_STOP_WORD = 8  # a paragraph of more words must hold a stop-word
STOP_WORDS = frozenset(
    (
        *("the", "a", "an", "be", "is", "are", "to", "of", "and", "or", "that", "have"),
        *("with", "in", "for", "it", "this", "as", "by", "on", "if", "not", "from"),
    )
)

# fmt: off
_LISTING_SECTIONS = frozenset((
    "parameters", "parameter", "params", "param", "other parameters", "args", "arg", "arguments", "argument",
    "keyword args", "keyword arguments", "kwargs", "keywords", "attributes", "attribute", "methods", "method",
    "properties", "fields", "members", "returns", "return", "return value", "return values", "return type",
    "yields", "yield", "receives", "raises", "raise", "throws", "except", "exceptions", "warns", "example",
    "examples", "usage", "sample", "sample usage", "example usage", "usage example", "usage examples",
    "code example", "code examples", "see also", "seealso", "reference", "references", "shape", "shapes",
    "inputs", "outputs", "input", "output", "todo", "todos", "tests", "test", "doctest", "variables", "slots",
    "options", "option", "config", "configuration", "class attributes", "data fields", "author", "authors",
    "version", "copyright", "license", "history", "changelog", "changes", "contents", "table of contents",
    "links", "url", "urls", "constraints", "supports", "syntax", "limitations", "invocation", "command line",
    "environment variables", "commands", "functions", "classes", "exported classes", "subcommands",
))
# fmt: on
_PROSE_SECTIONS = frozenset(
    ("note", "notes", "warning", "warnings", "important", "description", "details", "overview", "remarks")
)
_ADMONITIONS = _PROSE_SECTIONS | {"tip", "caution", "hint", "attention", "danger"}

_HEADING = re.compile(r"([A-Za-z]+(?: [A-Za-z]+){0,2})\s?:{1,2}(?:\s+(\S.*))?")
_RULER = re.compile(r"([-=~^\"'#*+_.])\1{2,}")
_FIELD = re.compile(r"[:@][A-Za-z_]+\b[^:`]{0,80}:(?:\s|$)|@[a-z]+\b")
_DIRECTIVE = re.compile(r"\.\.(?:\s+([\w:.-]+?)\s?::\s*(.*)|\s.*|$)")
_LIST_ITEM = re.compile(r"(?:[-*+•‣·–]|\(?(?:\d{1,3}|[a-zA-Z]|#|[ivx]{2,4})[.)]|\[\d+\]:?|o)\s")
_LITERAL_LINE = re.compile(r">>>|\.\.\.|In ?\[|[$%#|<{\[@\\!~]|\+[-=]|=|```|--|import |from \w+ import |def |class ")
_SIGNATURE_LINE = re.compile(r"[\w., ]*\w\([^()]*\)(?: ?(?:->|=>) ?.{1,40})?")  # NumPy and C extensions open with one

_ROLE = re.compile(r":[A-Za-z][\w:+.-]*:`([^`]+)`")
_LINK = re.compile(r"`([^`<]*[^`<\s])\s*<[^`>]*>`_{0,2}")
_LITERAL = re.compile(r"``(.+?)``")
_QUOTED = re.compile(r"`([^`]+)`_{0,2}")
_STRONG = re.compile(r"(?<![\w*])\*{1,3}([^\s*](?:[^*]*[^\s*])?)\*{1,3}(?![\w*])")
_FOOTNOTE = re.compile(r"\s?\[(?:\d{1,3}|#\w*|\*|[A-Z][\w+]*)\]_")
_SUBSTITUTION = re.compile(r"\|([A-Za-z][\w .-]*)\|_{0,2}")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\](?:\([^)\s]*\)|\[[^\]]*\])")
_EPYTEXT = re.compile(r"\b[CLIBUMXE]\{([^{}]*)\}")
_CALL = re.compile(r"(?<=\w)\(\)")
_TILDE_PATH = re.compile(r"(?:~|!)?(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?:\(\))?")
_LEFT_OVER = re.compile(
    r"https?:|www\.|[{}\\`]|::|>>>|</?[A-Za-z]|\$\$|=>|->|==|\|\||\b(?:TODO|FIXME|XXX)\b|:[a-z]+:|\b__\w|\*\*|"
    r"\w\(\w*=|\s=\s|\.\.\s|Copyright|WARRANT|[Ll]icensed under|\bself\b"
)
_GAP = re.compile(r"(?<=[.!?])[)\"']?\s+(?=[\"'(]?[A-Z])")
_ABBREVIATION = re.compile(
    r"(?:\be\.g|\bi\.e|\betc|\bvs|\bcf|\bal|\bresp|\bapprox|\b[Ff]ig|\b[Ee]qs?|\bDr|\bMr|\bSt)\.$"
)
_CLOSED = re.compile(r"[.!?][)\"']?$")
_SPACES = re.compile(r"\s+")
_NOT_PLAIN = bytes(range(256)).translate(None, b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph in plain words. `first` says that it opens the docstring: its summary."""

    first: bool
    text: str


def plain_paragraphs(docstring: str) -> list[Paragraph]:
    """The running text of a docstring in plain words, judged by layout alone."""
    return [Paragraph(first, _plain_words(" ".join(lines))) for first, lines in _Layout(cleandoc(docstring)).blocks()]


def prose(paragraphs: list[Paragraph]) -> list[str]:
    """The paragraphs that read like prose, in sentence form."""
    found = []
    for paragraph in paragraphs:
        text = _sentence_form(paragraph.text)
        if reads_like_prose(text, MIN_WORDS_FIRST if paragraph.first else MIN_WORDS):
            found.append(text)
    return found


def first_sentence(paragraphs: list[Paragraph]) -> str:
    """The summary: the first sentence of the paragraph that opens a docstring; empty where there is none."""
    if not paragraphs or not paragraphs[0].first:
        return ""
    text = paragraphs[0].text
    for gap in _GAP.finditer(text):
        if not _ABBREVIATION.search(text, 0, gap.start()):
            text = text[: gap.start()]
            break
    return _sentence_form(text)


def reads_like_prose(text: str, min_words: int = MIN_WORDS) -> bool:
    """Whether a line of plain words reads like English sentences."""
    words = text.split()
    if len(words) < min_words or _LEFT_OVER.search(text):
        return False
    data = text.encode()
    if len(data.translate(None, _NOT_PLAIN)) < MIN_LETTERS * len(data):
        return False
    return len(words) <= WORDS_WITHOUT_STOP_WORD or not STOP_WORDS.isdisjoint(text.lower().split())


class _Layout:
    """Reads a docstring line by line; holds the block under way and what is being left out."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._found: list[tuple[bool, list[str]]] = []
        self._block: list[str] = []
        self._first = True  # no line of the docstring is before this block
        self._base = 0  # indentation of running text: deeper inside an admonition
        self._hidden: int | None = None  # deeper lines belong to what is left out
        self._section_hidden = False  # until the next underlined heading
        self._spoilt = False  # the block under way is a list, a definition or code

    def blocks(self) -> list[tuple[bool, list[str]]]:
        """Blocks of running text: (opens the docstring, stripped lines). Sections and indented matter are left out."""
        for number, line in enumerate(self._lines):
            words = line.strip()
            if not words:
                self._end_block()
            elif not _RULER.fullmatch(words):
                self._read(number, words, len(line) - len(line.lstrip()))
        self._end_block()
        return self._found

    def _read(self, number: int, words: str, indent: int) -> None:
        following = self._lines[number + 1].strip() if number + 1 < len(self._lines) else ""
        underlined = following and _RULER.fullmatch(following) and len(following) >= min(len(words), 4)
        if underlined and not self._block:
            self._enter_section(words, indent)
            return
        if self._is_left_out(indent):
            return
        self._base = min(self._base, indent)
        if not self._block and not self._spoilt:
            if self._first and not following and _SIGNATURE_LINE.fullmatch(words):
                return
            if self._opens(number, words, indent):
                return
        elif _FIELD.match(words) or (words.endswith(":") and _is_listing(words)):
            self._end_block()
            self._hidden = indent
            return
        if indent != self._base:
            self._spoilt = True  # a definition, a literal block, a quotation
        self._block.append(words)

    def _enter_section(self, heading: str, indent: int) -> None:
        self._section_hidden = heading.rstrip(":").lower() in _LISTING_SECTIONS
        self._base, self._hidden, self._first = indent, None, False

    def _is_left_out(self, indent: int) -> bool:
        """Whether a line belongs to a section or to indented matter that is left out."""
        if self._section_hidden:
            self._first = False
            return True
        if self._hidden is not None and indent > self._hidden:
            return True
        self._hidden = None
        return False

    def _opens(self, number: int, words: str, indent: int) -> bool:
        """Whether a block's first line opens something other than running text; then it is dealt with."""
        opened = _opening(words)
        if opened is None:
            return False
        self._first = False
        kind, rest = opened
        if kind == "prose":
            self._base = _indent_of_next(self._lines, number, indent)
            if rest:
                self._block.append(rest)
        else:
            self._hidden = indent
            self._spoilt = kind == "spoilt"
        return True

    def _end_block(self) -> None:
        if self._block and not self._spoilt:
            self._found.append((self._first, self._block))
        if self._block or self._spoilt:
            self._first = False
        self._block, self._spoilt = [], False


def _opening(words: str) -> tuple[str, str] | None:
    """What a block's first line opens: ("prose", text), ("hidden", "") deeper lines too, ("spoilt", "") its block."""
    heading = _HEADING.fullmatch(words)
    if heading:
        name, rest = heading[1].lower(), heading[2] or ""
        if name in _PROSE_SECTIONS:
            return "prose", rest
        if name in _LISTING_SECTIONS:
            return "spoilt", ""
    directive = _DIRECTIVE.match(words)
    if directive:
        if (directive[1] or "").lower() in _ADMONITIONS:
            return "prose", directive[2]
        return "hidden", ""
    if _FIELD.match(words) or _LIST_ITEM.match(words) or _LITERAL_LINE.match(words):
        return "spoilt", ""
    return None


def _is_listing(words: str) -> bool:
    return words.rstrip(":").strip().lower() in _LISTING_SECTIONS


def _indent_of_next(lines: list[str], number: int, indent: int) -> int:
    """Indentation of the next line with words, where deeper than `indent`."""
    for line in lines[number + 1 :]:
        if line.strip():
            return max(indent, len(line) - len(line.lstrip()))
    return indent


def _plain_words(text: str) -> str:
    """One line without markup."""
    if "`" in text:
        text = _ROLE.sub(lambda match: _role_text(match[1]), text)
        text = _LINK.sub(r"\1", text)
        text = _LITERAL.sub(r"\1", text)
        text = _QUOTED.sub(lambda match: _TILDE_PATH.sub(r"\1", match[1]) if match[1][0] in "~!" else match[1], text)
    if "*" in text:
        text = _STRONG.sub(r"\1", text)
    if "[" in text:
        text = _FOOTNOTE.sub("", text)
        text = _MARKDOWN_LINK.sub(r"\1", text)
    if "|" in text:
        text = _SUBSTITUTION.sub(r"\1", text)
    if "{" in text:
        text = _EPYTEXT.sub(r"\1", text)
    if "()" in text:
        text = _CALL.sub("", text)
    if "\\" in text:
        text = text.replace("\\ ", "").replace("\\*", "*").replace("\\_", "_")
    return _SPACES.sub(" ", text).strip()


def _role_text(target: str) -> str:
    """What a reader sees of :class:`~package.Name` (Name) and :ref:`words <target>` (words)."""
    title, bracket, _ = target.partition("<")
    if bracket and title.strip():
        return title.strip()
    return _TILDE_PATH.sub(r"\1", target) if target[0] in "~!" else target


def _sentence_form(text: str) -> str:
    """Capital at the start, full stop at the end; an unfinished last sentence ("For example:") is cut off."""
    if not text:
        return ""
    if not _CLOSED.search(text):
        if text[-1] in ":;,-(":
            gaps = [gap.start() for gap in _GAP.finditer(text)]
            if not gaps:
                return ""
            text = text[: gaps[-1]]
        else:
            text += "."
    word = text.split(" ", 1)[0].rstrip(".,:;")
    return text[0].upper() + text[1:] if word.isalpha() and word.islower() and not text.startswith("e.g.") else text
