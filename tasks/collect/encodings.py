"""Bytes of any encoding -> UTF-8, in blocks: what a source states, or what the beginning of the file shows.

What can be proved from the bytes is read: UTF-8, byte order marks, UTF-16 and UTF-32 without one, ISO-2022 and HZ
(7 bits with escapes). Of the older encodings `charset-normalizer` says which is likely, and that is read where no
other likely one would give other letters. Where it would, as between Western, Central European, Baltic and Turkish
ones, resiliparse's detector has the second word, and the file counts as guessed, which is said and stands beside each
document. Where the two contradict each other or too little shows, and always with `ask`, the file stays as it is and
its bytes that are not UTF-8 are reported with `encoding` as what to set. How often that is right: docs/decisions.md.

A byte that the encoding does not know comes out as one that is not UTF-8, so that it spoils its own record only.
"""

import codecs
import encodings.aliases
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from unicodedata import category

from tasks.collect.unpack import CONTROL, BrokenStream

AUTO, ASK = "auto", "ask"  # found or guessed; found or asked for
UTF8 = "utf-8"
UNSTATED = "is it another encoding? set `encoding` of this source"  # where nothing is likely
SAMPLE_BYTES = 256 * 1024  # of the beginning of a file: what an encoding is known by
MIN_FOREIGN_BYTES = 128  # beyond ASCII: from fewer a wrong alphabet is taken for the right one
MIN_LATIN_BYTES = 32  # as far as all Latin encodings agree
MIN_GUESSED_BYTES = 8  # of fewer, nobody can tell
MIN_UTF16_CHARACTERS = 8
MIN_SHARE_OF_MARKS = 0.01  # blanks, line ends and marks of a sentence among the characters of UTF-16 and UTF-32

# Byte order marks; those of UTF-32 begin with those of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# By Python's names, what a label of these stands for on the web (the Encoding Standard): the same with more letters.
WIDER = {
    **{"ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "tis-620": "cp874", "iso8859-11": "cp874"},
    **{"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"},
}
_ISO_2022 = (
    (re.compile(rb"\x1b\$\)C"), ("iso2022_kr",)),
    (re.compile(rb"\x1b(?:\$[@B]|\$\([@D]|\([BIJ])"), ("iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext")),
)
_ISO_2022_CN = re.compile(rb"\x1b\$\)[AGE]")
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"  # overlong ones do not matter here
)
_FOREIGN = re.compile(rb"[\x80-\xff]")
_C1 = re.compile(rb"[\x80-\x9f]")

# What charset-normalizer may choose from: what text was written in, by the Encoding Standard and on DOS and old Macs.
_LEGACY = (
    *("cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "koi8_u", "iso8859_5", "cp866", "cp855", "mac_cyrillic"),
    *("cp1253", "iso8859_7", "cp1254", "cp1255", "iso8859_8", "cp1256", "iso8859_6", "cp1257", "iso8859_4"),
    *("iso8859_13", "iso8859_15", "cp1258", "cp874", "gb18030", "big5hkscs", "cp950", "euc_jp", "cp932", "cp949"),
    *("johab", "mac_roman", "cp850", "cp437", "mac_latin2"),
)
_LATIN = ("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257")  # the first of those that agree is taken
_LATIN_KIN = (*_LATIN, "iso8859_4", "iso8859_13", "iso8859_15", "cp1258", "mac_roman", "cp850", "cp437", "mac_latin2")
_SAID = {  # what a detector may say -> what such text is read as: the encodings of Windows hold more letters
    **{"iso8859_1": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874", "iso8859_16": "iso8859_2"},
    **{"gbk": "gb18030", "gb2312": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"},
}
_UNDECODABLE = "llmill-undecodable"


@dataclass(frozen=True, slots=True)
class Guess:
    """The encoding that bytes are read in; `hint` says what to set where their own is not known, and `likely` is the
    first that it names.

    `sure` is false where another encoding is likely too.
    """

    encoding: str
    hint: str = ""
    sure: bool = True
    likely: str = ""


def known_encoding(name: str) -> str:
    """Python's own name of an encoding (`latin1` -> `iso8859-1`), `auto` or `ask`; ValueError for anything else."""
    if name.lower() in (AUTO, ASK):
        return name.lower()
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    texts = {codecs.lookup(alias).name for alias in set(encodings.aliases.aliases.values()) if _is_text(alias)}
    if found is None or found.name not in {*texts, "utf-8-sig"}:
        raise ValueError(
            f"{name!r} is not an encoding that Python knows: give auto, ask, utf-8, utf-16, cp1252, iso8859-1, koi8-r, "
            "gb18030, big5, cp932, euc-kr, ... (docs.python.org/3/library/codecs.html#standard-encodings)"
        )
    return found.name


def _is_text(alias: str) -> bool:
    try:
        return bool(codecs.lookup(alias)._is_text_encoding)
    except LookupError:  # of another operating system
        return False


def guess(data: bytes, whole: bool, ask: bool = False) -> Guess:
    """The encoding of a whole file, or of the beginning of one (cut anywhere); with `ask` only one that is sure."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return Guess(encoding)
    if not _FOREIGN.search(data) and (escaped := _seven_bits(data)):
        return escaped
    if CONTROL.search(data):
        return Guess(_utf_without_mark(data) or UTF8)
    if _decodes(data, UTF8, whole):
        return Guess(UTF8)
    foreign = len(_FOREIGN.findall(data))
    valid = sum(map(len, _UTF8_SEQUENCE.findall(data)))
    if valid > foreign - valid:
        return Guess(UTF8)  # with some bad bytes in it
    found = _legacy(data, foreign)
    return found if ask or not found.hint else _guessed(data, foreign) or found


def decoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Blocks of an encoding as blocks of UTF-8; those of UTF-8 pass as they are."""
    if encoding == UTF8:
        yield from blocks
        return
    codecs.register_error(_UNDECODABLE, _undecodable)
    decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE)
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


def beginning(blocks: Iterator[bytes]) -> tuple[bytes, bool, Iterator[bytes]]:
    """About the first SAMPLE_BYTES of a stream, whether that is all, and the stream with them put back.

    Where the stream breaks, the break comes at its place.
    """
    pieces: list[bytes] = []
    length, ended = 0, False
    broken: BrokenStream | None = None
    try:
        while length < SAMPLE_BYTES and not ended:
            block = next(blocks, b"")
            ended = not block
            pieces.append(block)
            length += len(block)
    except BrokenStream as error:
        broken = error

    def whole() -> Iterator[bytes]:
        yield from pieces
        if broken is not None:
            raise broken
        yield from blocks

    return b"".join(pieces), ended, whole()


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


def _decodes(data: bytes, encoding: str, whole: bool = False) -> bool:
    """Whether bytes are of the encoding; what is cut at the end matters only to a whole file."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, whole)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _utf_without_mark(data: bytes) -> str:
    """UTF-32 or UTF-16 without a mark, either order of bytes; empty where it is neither.

    The words of the wrong order are letters too, but the blank, the line end and the marks of a sentence are not.
    """
    best, encoding = 0, ""
    for candidate in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        if not _decodes(data, candidate):
            continue
        text = codecs.getincrementaldecoder(candidate)().decode(data)
        if len(text) < MIN_UTF16_CHARACTERS or any(
            category(character) in ("Cc", "Cn", "Co") and character not in "\t\n\r\f\v" for character in set(text)
        ):
            continue
        marks = sum(text.count(mark) for mark in " \n,.、。，")
        if marks > max(best, len(text) * MIN_SHARE_OF_MARKS):
            best, encoding = marks, candidate
    return encoding


def _seven_bits(data: bytes) -> Guess | None:
    """ISO-2022 and HZ, whose bytes are ASCII; None for plain text."""
    if b"\x1b" in data:
        for escape, candidates in _ISO_2022:
            found = next((name for name in candidates if escape.search(data) and _decodes(data, name)), "")
            if found:
                return Guess(found)
        if _ISO_2022_CN.search(data):
            return Guess(UTF8, "it looks like ISO-2022-CN: convert the file to UTF-8 (iconv -f ISO-2022-CN -t UTF-8)")
    if b"~{" in data:
        inside = sum(map(len, _HZ.findall(data)))
        if inside * 10 >= len(data) and _decodes(data, "hz"):
            return Guess("hz")
    return None


def _legacy(data: bytes, foreign: int) -> Guess:
    from charset_normalizer import from_bytes

    likely = from_bytes(data, cp_isolation=list(_LEGACY)).best()
    if likely is None:
        return Guess(UTF8, "the encoding is not known: set `encoding` of this source")
    if likely.encoding not in _LATIN_KIN:
        if foreign >= MIN_FOREIGN_BYTES:
            return Guess(likely.encoding)
        return _unsure([likely.encoding])
    # Central European text without a byte of 80 to 9F is ISO 8859-2, where Windows has some of its letters there.
    spare = "iso8859_2" if _C1.search(data) else "cp1250"
    kin = [name for name in _LATIN if name != spare and _decodes(data, name)]
    readings = {codecs.getincrementaldecoder(name)().decode(data) for name in kin}
    if len(readings) == 1 and foreign >= MIN_LATIN_BYTES:
        return Guess(kin[0])
    return _unsure(kin or [likely.encoding])


def _guessed(data: bytes, foreign: int) -> Guess | None:
    """What resiliparse's detector says of text that charset-normalizer is unsure of; None where it cannot be right."""
    from charset_normalizer import from_bytes
    from resiliparse.parse.encoding import detect_encoding

    said = (detect_encoding(data, max_len=SAMPLE_BYTES) or UTF8).lower()
    if said == UTF8 or foreign < MIN_GUESSED_BYTES:
        return None
    said = said.replace("-", "_")
    said = _SAID.get(said, said)
    if not _decodes(data, said):
        return None
    if any("\x80" <= letter <= "\x9f" for letter in codecs.getincrementaldecoder(said)().decode(data)):
        return None  # no text has these controls
    likely = from_bytes(data, cp_isolation=list(_LEGACY)).best()
    if likely is not None and (likely.encoding in _LATIN_KIN) != (said in _LATIN_KIN):
        return None
    return Guess(said, sure=False)


def _unsure(names: list[str]) -> Guess:
    hint = f"it looks like {' or '.join(names[:4])}: set `encoding` of this source"
    return Guess(UTF8, hint, likely=names[0])
