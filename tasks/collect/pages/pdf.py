"""PDF files -> their text, page after page. Runs in the child process (worker.py).

A PDF knows lines, not paragraphs: a line that goes on in small letters is joined to the one before, and a word that is
parted at a line's end is put together, with its hyphen only where the file has the word with it elsewhere. Pages are
apart by an empty line, unless a sentence goes on.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

NO_TEXT = "no text: scanned or protected"
_HYPHENS = "-\u2010\u00ad"
_JOINED = re.compile(r"(\w+)[\ufffe\x02](\w+)")  # PDFium puts the halves together and writes the hyphen like this
_PARTED = re.compile(rf"(\w+)[{_HYPHENS}]$")
_WORD = re.compile(r"\w+(?:-\w+)*")
_ENDS = tuple('.!?:;。！？"”»')
_DAY = re.compile(r"D:(\d{4})(\d\d)(\d\d)")
PASSWORD = 4  # FPDF_ERR_PASSWORD


def read_pdf(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(body)
        pages = [_page_lines(page) for page in document]
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == PASSWORD:
            return "no text: protected by a password"
        return f"not readable as PDF ({str(error)[:100]})"
    text = _joined(pages)
    if not text.strip():
        return NO_TEXT
    said = document.get_metadata_dict(skip_empty=True)
    day = _DAY.match(said.get("CreationDate", ""))
    return {
        "text": text,
        "title": " ".join(said.get("Title", "").split()),
        "date": "-".join(day.groups()) if day else "",
        "about": {"pages": len(pages)},
    }


def _page_lines(page: Any) -> list[str]:
    words = page.get_textpage()
    text = words.get_text_range(errors="replace")
    words.close()
    page.close()
    return [line.rstrip() for line in text.replace("\0", "").splitlines()]


def _joined(pages: list[list[str]]) -> str:
    """The lines of all pages, parted words and sentences put together."""
    known = {word.lower() for lines in pages for line in lines for word in _WORD.findall(line)}
    result: list[str] = []
    for lines in pages:
        if result and result[-1]:
            result.append("")
        for line in lines:
            _add(result, _JOINED.sub(lambda found: _word(found[1], found[2], known), line), known)
    return "\n".join(_without_blanks_at_ends(result)) + "\n"


def _add(result: list[str], line: str, known: set[str]) -> None:
    goes_on = line[:1].islower()
    before = len(result) - 1 - (len(result) > 1 and not result[-1])
    last = result[before] if before >= 0 else ""
    if not goes_on or not last or last.endswith(_ENDS):
        if line or (result and result[-1]):
            result.append(line)
        return
    del result[before + 1 :]
    parted = _PARTED.search(last)
    if parted is None:
        result[before] = f"{last} {line}"
        return
    rest = re.match(r"\w+", line)
    assert rest is not None, line  # it begins with a small letter
    result[before] = last[: parted.start()] + _word(parted[1], rest[0], known) + line[rest.end() :]


def _word(half: str, rest: str, known: set[str]) -> str:
    """A parted word, with its hyphen where only that form is known from elsewhere."""
    hyphened = f"{half}-{rest}"
    return hyphened if hyphened.lower() in known and (half + rest).lower() not in known else half + rest


def _without_blanks_at_ends(lines: list[str]) -> Iterator[str]:
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return iter(lines[filled[0] : filled[-1] + 1] if filled else [])
