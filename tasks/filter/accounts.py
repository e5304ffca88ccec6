"""International bank account numbers (IBAN) in running text: ISO 13616, the country's length, the check digits.

Two letters for the country, two check digits, the account: the whole, its first four characters moved to the end and
letters read as 10 to 35, is 1 modulo 97 (ISO 7064, MOD 97-10); one other string in 97 is. Written together or in groups
of four. The pattern has bounded repeats: linear in the text. Lengths are those of SWIFT's registry of 2024.
"""

import re
from collections.abc import Iterator

IBAN = "XX00 0000 0000 0000 0000"  # XX is no country
_LENGTHS = {
    code: int(length)
    for length, codes in (
        line.split(maxsplit=1)
        for line in """15 NO
        16 BE
        18 DK FI FK FO GL NL SD
        19 MK SI
        20 AT BA EE KZ LT LU MN XK
        21 CH CR HR LI LV
        22 BG BH DE GB GE IE ME RS VA
        23 AE GI IL IQ OM SO TL
        24 AD CZ DZ ES MD PK RO SA SE SK TN VG
        25 AO CV GW LY MZ PT ST
        26 IR IS TR
        27 BF BI BJ CF CG CI CM DJ FR GA GQ GR IT KM MC MG ML MR NE SM SN TD TG
        28 AL AZ BY CY DO GT HN HU LB MA NI PL SV
        29 BR EG PS QA UA
        30 JO KW MU YE
        31 MT SC
        32 LC
        33 RU""".splitlines()
    )
    for code in codes.split()
}
_FIRST = re.compile(r"[0-9]{2}(?<=[A-Z]{2}[0-9]{2})(?<![A-Za-z0-9][A-Z]{2}[0-9]{2})(?=[ \u00a0]?[A-Z0-9]{4})")
_REST = re.compile(r"(?:[ \u00a0]?[A-Z0-9]){11,29}")


def iban_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers of bank accounts are."""
    for match in _FIRST.finditer(text):
        start = match.start() - 2
        length = _LENGTHS.get(text[start : start + 2], 0)
        rest = _REST.match(text, match.end()) if length else None
        end = _end_of(text, start, rest.end(), length) if rest else None
        if end is not None and _check_sum(text[start:end]) == 1:
            yield start, end


def _end_of(text: str, start: int, most: int, length: int) -> int | None:
    """Where so many letters and digits end; None where there are fewer, or another touches the last."""
    places = [place for place in range(start, most) if text[place].isalnum()]
    if len(places) < length:
        return None
    end = places[length - 1] + 1
    return None if text[end : end + 1].isascii() and text[end : end + 1].isalnum() else end


def _check_sum(number: str) -> int:
    letters = [letter for letter in number if letter.isalnum()]
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97
