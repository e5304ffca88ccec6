"""The bytes of a page -> text, in the order that browsers ask: byte order mark, what the server said, what the page
says, and last what the bytes look like. Where that is not sure either, they are read as browsers read them, as
Windows-1252 or what is likelier, and count as guessed.

Bytes that are valid UTF-8 with more than ASCII are taken for it, whatever is declared: text of another encoding is
not valid UTF-8 by chance, and declarations are often out of date.
"""

import re
from typing import Any

from tasks.collect.encodings import ASK, AUTO, MARKS, SAMPLE_BYTES, UNSTATED, UTF8, WIDER, guess, known_encoding

PRESCAN_BYTES = 4096  # where a page may declare its encoding; browsers look at 1,024, and many pages are later
_META = re.compile(rb"<meta[^>]+?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]+?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_LABELS = {  # that Python does not know
    **{"x-sjis": "cp932", "windows-31j": "cp932", "windows-874": "cp874", "x-gbk": "gb18030", "windows-949": "cp949"},
    **{"x-euc-jp": "euc_jp", "x-x-big5": "big5hkscs", "x-mac-roman": "mac_roman", "x-mac-cyrillic": "mac_cyrillic"},
    **{"x-cp1250": "cp1250", "x-cp1251": "cp1251", "x-cp1252": "cp1252", "iso-8859-8-i": "iso8859_8"},
}
_SEVEN_BITS = ("iso2022", "hz", "utf-7")


class Undecodable(Exception):
    """Bytes that are not of the encoding that the source states, or of none that is sure where it says `ask`."""


def page_text(body: bytes, charset: str = "", encoding: str = AUTO) -> str:
    """The page as text; what cannot be decoded becomes U+FFFD. `charset` is what the server said."""
    return decoded_page(body, charset, encoding)[0]


def decoded_page(body: bytes, charset: str = "", encoding: str = AUTO) -> tuple[str, str]:
    """The page as text, and its encoding where neither page nor server says it, nor UTF-8 shows.

    `encoding` is that of the source: one that it states counts before all that page and server say, and with `ask`
    only what is sure is read. Undecodable where that fails.
    """
    if encoding not in (AUTO, ASK):
        try:
            return body.decode(encoding).removeprefix("\ufeff"), ""
        except UnicodeDecodeError as error:
            raise Undecodable(f"invalid {encoding}") from error
    for mark, marked in MARKS:
        if body.startswith(mark):
            return body.decode(marked, "replace").removeprefix("\ufeff"), ""
    declared = [name for name in (_known(charset), _known(_declared(body))) if name]
    if not any(name.replace("-", "").startswith(_SEVEN_BITS) for name in declared):
        try:
            return body.decode("utf-8"), ""
        except UnicodeDecodeError:
            pass
    for name in declared:
        try:
            return body.decode(name), ""
        except UnicodeDecodeError:
            continue
    if declared:
        return body.decode(declared[0], "replace"), ""
    found = guess(body[:SAMPLE_BYTES], len(body) <= SAMPLE_BYTES, ask=encoding == ASK)
    if encoding == ASK and found.encoding == UTF8:
        raise Undecodable(f"invalid UTF-8 ({found.hint or UNSTATED})")
    name = (found.likely or "cp1252") if found.hint else found.encoding
    return body.decode(name, "replace"), name if name != UTF8 else ""


def guessed(encoding: str) -> dict[str, Any]:
    """What a document's metadata say of an encoding that `decoded_page` had to find out; nothing of a stated one."""
    return {"encoding": encoding, "encoding_guessed": True} if encoding else {}


def _declared(body: bytes) -> str:
    start = body[:PRESCAN_BYTES]
    found = _XML.search(start) or _META.search(start)
    return found[1].decode("ascii") if found else ""


def _known(label: str) -> str:
    """Python's name for a label as browsers read it: latin1 is Windows-1252, gb2312 is gb18030. Empty for no label.

    A declaration that could be read at all is in bytes of ASCII, so UTF-16 and UTF-32 are not believed.
    """
    label = label.strip().strip("\"'").lower()
    label = _LABELS.get(label, label)
    try:
        name = known_encoding(label) if label and label not in (AUTO, ASK) else ""
    except ValueError:
        return ""
    return "" if name.startswith(("utf-16", "utf-32")) else WIDER.get(name, name)
