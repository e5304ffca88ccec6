"""Replace personal data and secrets by what belongs to nobody, and say where they were.

Kinds: e-mail addresses and public IP addresses (addresses.py), telephone numbers (phones.py), numbers of payment cards
(cards.py), of bank accounts (accounts.py) and of US social security (ssn.py), keys and tokens (secrets.py). Each looks
for spans; the placeholders are of the same form and reserved (RFC 2606, RFC 5737, the 555-01xx numbers), read
naturally, and a second pass changes nothing.

A stand-in in place of a placeholder is the same for the same value in all documents and another for most other values,
so that a text still says who wrote to whom. It comes from a hash of the value, few bits of it: who already has an
address can see that it may have been there.

No space parts words in Chinese, Japanese, Thai and others, and in Korean and India's languages endings touch what is
before them: there an address begins and ends where the script does (`邮箱是ada@gmail.com谢谢`).
"""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tasks.filter.accounts import IBAN, iban_spans
from tasks.filter.addresses import email_spans, ip_spans
from tasks.filter.cards import CARD, card_spans
from tasks.filter.phones import phone_spans
from tasks.filter.prescan import impossible_kinds
from tasks.filter.secrets import SECRET, secret_spans
from tasks.filter.ssn import SSN, ssn_spans
from tasks.words import is_european

EMAIL, PHONE, IPV4, IPV6 = "email@example.com", "555-0100", "192.0.2.1", "2001:db8::1"
# In this order they are looked for: a part of a key may look like a number, one of a card like a telephone number.
KINDS = ("secret", "email", "iban", "card", "ssn", "phone", "ip")

# Letters that no space parts from ASCII: of India's and all scripts behind them, but not the rest of Latin and Greek.
_OTHERS = "\u0900-\u1cff\u2e80-\ua4cf\ua840-\ud7ff\uf900-\ufaff\uff66-\uffdc\U0001b000-\U0003ffff"
_TOUCH = re.compile(f"(?<=[0-9A-Za-z])(?=[{_OTHERS}])|(?<=[{_OTHERS}])(?=[0-9A-Za-z+(])")
_MARKS = range(0xE000, 0xF8FF)  # of private use: none is a letter


class Found(NamedTuple):
    """A span of a text that was replaced, in characters, and what it was."""

    start: int
    end: int
    kind: str


Spans = Iterable[tuple[int, int]]
_FINDERS: dict[str, Callable[[str, Sequence[str]], Spans]] = {
    "secret": lambda text, _: secret_spans(text),
    "email": lambda text, _: email_spans(text),
    "iban": lambda text, _: iban_spans(text),
    "card": lambda text, _: card_spans(text),
    "ssn": lambda text, _: ssn_spans(text),
    "phone": phone_spans,
    "ip": lambda text, _: ip_spans(text),
}
_PLACEHOLDERS = {"secret": SECRET, "email": EMAIL, "iban": IBAN, "card": CARD, "ssn": SSN, "phone": PHONE}
_PLACEHOLDERS |= {"ipv4": IPV4, "ipv6": IPV6}
_STAND_INS: dict[str, Callable[[int], str]] = {
    "secret": lambda bits: f"{SECRET}_{bits % 10**6:06}",
    "email": lambda bits: f"user{bits % 10**6:06}@example.com",
    "iban": lambda bits: f"{IBAN[:-4]}{bits % 10**4:04}",
    "card": lambda bits: f"{CARD[:-4]}{bits % 10**4:04}",
    "ssn": lambda bits: f"{SSN[:-4]}{bits % 10**4:04}",
    "phone": lambda bits: f"555-01{bits % 100:02}",
    "ipv4": lambda bits: f"{('192.0.2', '198.51.100', '203.0.113')[bits % 3]}.{1 + bits // 3 % 254}",
    "ipv6": lambda bits: f"2001:db8::{1 + bits % 0xFFFE:x}",
}


def redact(text: str, kinds: Sequence[str], regions: Sequence[str] = ()) -> tuple[str, dict[str, int]]:
    """The text with placeholders for what is found, and the number of replacements by kind.

    `regions` are the countries (ISO 3166) whose national telephone numbers are found in any form.
    """
    redacted, found = redacted_spans(text, kinds, regions)
    counts = Counter(one.kind for one in found)
    return redacted, {kind: counts[kind] for kind in kinds}


def redacted_spans(
    text: str, kinds: Sequence[str], regions: Sequence[str] = (), stand_ins: bool = False
) -> tuple[str, list[Found]]:
    """The text with what is found replaced, and its spans in the text as it was given (ascending, apart)."""
    apart, mark = parted(text)
    redacted, found = _replaced(apart, kinds, regions, stand_ins)
    if not mark:
        return redacted, found
    added = [match.start() for match in re.finditer(mark, apart)]
    moved = [Found(_before(added, one.start), _before(added, one.end), one.kind) for one in found]
    return redacted.replace(mark, ""), moved


def _before(added: Sequence[int], place: int) -> int:
    """A place of a parted text in the text itself; `added` are the places of the marks."""
    return place - bisect_left(added, place)


def parted(text: str) -> tuple[str, str]:
    """The text with a mark wherever a letter of a script that needs no space touches a letter or digit of ASCII, and
    the mark, which is nowhere else; the text itself where nothing touches."""
    if is_european(text):
        return text, ""
    mark = next((sign for sign in map(chr, _MARKS) if sign not in text), "")
    apart = _TOUCH.sub(mark, text)
    return (apart, mark) if len(apart) > len(text) else (text, "")


def _replaced(text: str, kinds: Sequence[str], regions: Sequence[str], stand_ins: bool) -> tuple[str, list[Found]]:
    """As `redacted_spans`, for a text that is parted.

    What is replaced may make something else of what is beside it (a telephone number before an `@`), so passes are
    made until one finds nothing.
    """
    pieces: list[_Piece] = []
    current, changed = text, True
    while changed:
        changed, impossible = False, set(impossible_kinds(current))
        for kind in (kind for kind in KINDS if kind in kinds):
            if kind in impossible:
                continue
            if spans := list(_apart(sorted(_FINDERS[kind](current, regions)))):
                pieces = _added(text, pieces, spans, kind, stand_ins)
                current, changed = _with(text, pieces), True
                impossible = set(impossible_kinds(current))
    return current, [Found(piece.start, piece.end, piece.kind) for piece in pieces]


class _Piece(NamedTuple):
    """A span of the text as it was given, and what stands in its place."""

    start: int
    end: int
    kind: str
    instead: str


def _apart(spans: Spans) -> Iterator[tuple[int, int]]:
    """Sorted spans without those that begin in an earlier one."""
    end = 0
    for span in spans:
        if span[0] >= end:
            end = span[1]
            yield span


def _added(text: str, pieces: list[_Piece], spans: Spans, kind: str, stand_ins: bool) -> list[_Piece]:
    """The pieces with one for each span of the text in which they are replaced; what a span touches becomes its own."""
    starts, ends, shift = [], [], 0
    for piece in pieces:
        starts.append(piece.start + shift)
        ends.append(starts[-1] + len(piece.instead))
        shift = ends[-1] - piece.end
    added, gone = [], set[int]()
    for start, end in spans:
        first, behind = bisect_right(ends, start), bisect_left(starts, end)
        gone.update(range(first, behind))
        begin = start + (pieces[first - 1].end - ends[first - 1] if first else 0)
        stop = end + (pieces[behind - 1].end - ends[behind - 1] if behind else 0)
        if first < behind:
            begin, stop = min(begin, pieces[first].start), max(stop, pieces[behind - 1].end)
        added.append(_Piece(begin, stop, kind, _instead(text[begin:stop], kind, stand_ins)))
    return sorted([*added, *(piece for number, piece in enumerate(pieces) if number not in gone)])


def _with(text: str, pieces: list[_Piece]) -> str:
    parts, end = [], 0
    for piece in pieces:
        parts += [text[end : piece.start], piece.instead]
        end = piece.end
    return "".join([*parts, text[end:]])


def _instead(value: str, kind: str, stand_in: bool) -> str:
    """What takes the place of a value: nobody's. See RFC 2606, 3849, 5737; 000 begins no social security number."""
    if kind == "ip":
        kind = "ipv6" if ":" in value else "ipv4"
    if not stand_in:
        return _PLACEHOLDERS[kind]
    bits = int.from_bytes(hashlib.blake2b(value.lower().encode(errors="replace"), digest_size=8).digest())
    return _STAND_INS[kind](bits)
