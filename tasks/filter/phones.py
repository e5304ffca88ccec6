"""Telephone numbers in running text: which runs of digits are one.

What counts, from what is written like nothing else to what needs its surroundings:

1. `+` or `00` and a country's code, where the length is possible there (`00`: where the number is valid);
2. the North American form: brackets or hyphens, or spaces and points behind a word of `_CALL`;
3. national forms with a leading 0 (020 7946 0018, 01 42 68 53 00, 089/1234567), in the groups in which one of
   `TRUNK_ZERO` writes them, or valid there with the area code as it writes it;
4. national forms without one (912 34 56 78), for the countries that are known: those of the recipe, else those of the
   language that the source states;
5. any 7 to 15 digits behind a word for telephone, fax and the like (`_WORD`).

Lengths, validity and groups are those of Google's libphonenumber (package `phonenumbers`), whose own search needs a
country and takes populations and sizes for numbers. Each pattern starts with a digit, a `+` or a `0` and has bounded
repeats only: linear in the text.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

SEPARATOR = r"[ .\-\u00a0\u2010\u2011\u2013]"
GROUP = r"(?:[0-9]{1,5}|\([0-9]{1,5}\))"

# Countries by language: who writes it is likely to give numbers of these. Only what a language says alone.
BY_LANGUAGE = {
    "bg": ("BG",),
    "cs": ("CZ",),
    "da": ("DK",),
    "de": ("DE", "AT", "CH"),
    "el": ("GR",),
    "en": ("GB", "IE", "AU", "NZ"),
    "es": ("ES",),
    "fi": ("FI",),
    "fr": ("FR", "BE", "CH"),
    "hi": ("IN",),
    "hu": ("HU",),
    "id": ("ID",),
    "it": ("IT",),
    "ja": ("JP",),
    "ko": ("KR",),
    "nl": ("NL", "BE"),
    "no": ("NO",),
    "pl": ("PL",),
    "pt": ("PT", "BR"),
    "ro": ("RO",),
    "ru": ("RU",),
    "sv": ("SE",),
    "th": ("TH",),
    "tr": ("TR",),
    "uk": ("UA",),
    "vi": ("VN",),
    "zh": ("CN", "TW"),
}
TRUNK_ZERO = (
    *("GB", "DE", "FR", "IN", "JP", "IT", "NL", "AU", "CH", "AT", "BE", "SE", "FI", "IE", "NZ", "ZA"),
    *("TR", "UA", "RO", "BG", "KR", "CN", "TW", "TH", "VN", "ID", "MY", "PK", "BD", "IL", "EG", "NG", "KE"),
)

_INTERNATIONAL = re.compile(
    rf"\+(?<![\w+.\-]\+)(?:[1-9][0-9]{{10,14}}(?!\w|[.\-][0-9])"
    rf"|[1-9][0-9]{{0,2}}(?:{SEPARATOR}?{GROUP}){{2,6}}(?![\w.\-]?[0-9]))"
)
_DIALLED = re.compile(rf"00(?<![\w+.,\-/]00)[1-9](?:{SEPARATOR}?{GROUP}){{2,7}}(?![\w.\-]?[0-9]|\w)")
_NORTH_AMERICAN = re.compile(
    rf"(?<![\w.,\-+/])(?:1{SEPARATOR})?(?:\([2-9][0-9]{{2}}\){SEPARATOR}?|[2-9][0-9]{{2}}{SEPARATOR})"
    rf"[2-9][0-9]{{2}}{SEPARATOR}[0-9]{{4}}(?!{SEPARATOR}?[0-9]|/[0-9]|\w)"
)
_MAY_HOLD_NORTH_AMERICAN = re.compile(rf"[0-9]{{3}}{SEPARATOR}[0-9]{{4}}")
_LEADING_ZERO = re.compile(
    rf"0(?<![\w.,\-+/:#=]0)(?<![0-9]{SEPARATOR}0)[1-9][0-9]{{0,5}}(?:(?: [0-9])?\))?"
    rf"(?:(?:{SEPARATOR}|/| / )[0-9]{{2,8}}){{1,5}}(?![\w.,\-/:]?[0-9]|\w)"
)
_NO_ZERO = re.compile(
    rf"[1-9](?<![\w.,\-+/:#=][1-9])(?<![0-9]{SEPARATOR}[1-9])[0-9]{{0,4}}\)?"
    rf"(?:{SEPARATOR}(?:[0-9]{{2,5}}|\([0-9]{{2,5}}\))){{1,4}}(?![\w.,\-/:]?[0-9]|\w)"
)
_ANY = re.compile(r"[0-9](?<![\w.,\-+/#=][0-9])(?:[ .\-/()\[\]\u00a0]{0,3}[0-9]){6,16}(?![\w.,\-/:]?[0-9]|\w)")

_MAY_HOLD_ANY = re.compile(r"[0-9](?:[ .\-/()\[\]\u00a0\u2010\u2011\u2013]{0,3}[0-9]){6}")

_BEFORE_CHARACTERS = 32
_FOLLOW = r"\W{0,4}(?:(?:no|nr|number|numbers|is|at|us|on|and|or|und|et|y|line|main|office|home|work)\b\W{0,3}){0,2}$"
_WORD = re.compile(
    r"(?:\b(?:tele)?(?:phone|phones|fax)|\btel|\bph|\btele?fono?|\bteléfono|\btélé?(?:phone|copie)?|\btelefone|\bfono"
    r"|\bmobiles?|\bmobil|\bmóvil|\bmovil|\bcell|\bcellular|\bcelular|\bhandy|\bwhatsapp|\btelefax|\bsms|\bhotline"
    r"|тел|телефон|факс|電話|电话|手机|手機|携帯|전화)" + _FOLLOW,
    re.IGNORECASE,
)
_CALL = re.compile(
    r"\b(?:call|calls|called|dial|dialled|ring|reach|contact|text|message|reached)" + _FOLLOW, re.IGNORECASE
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-./ ][0-9]{1,2}[-./ ][0-9]{1,2}|[0-9]{1,2}[-./ ][0-9]{1,2}[-./ ](?:19|20)[0-9]{2}\b"
)
_YEARS = re.compile(rf"(?:(?:1[0-9]|20)[0-9]{{2}}{SEPARATOR}?){{2}}")
_NOBODYS = re.compile(r"555-01[0-9]{2}")  # reserved for fiction: our own placeholder is one
_SIZES = 8  # three numbers that it divides are rather sizes (512-768-1024) than a number: one real one in 500


def countries_of(language: str) -> tuple[str, ...]:
    """The countries whose numbers a text is likely to give, by the language that its source states (`de`, `pt-BR`)."""
    return BY_LANGUAGE.get(re.split("[-_]", language.strip().lower())[0], ())


def phone_spans(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where telephone numbers are, in no order and perhaps one in another; `regions` are ISO 3166 codes."""
    if not _MAY_HOLD_ANY.search(text):
        return
    if "+" in text:
        yield from _spans(_INTERNATIONAL, text, _is_international)
    if "00" in text:
        yield from _spans(_DIALLED, text, lambda match: _is_valid(f"+{match[0][2:]}"))
    if _MAY_HOLD_NORTH_AMERICAN.search(text):
        yield from _spans(_NORTH_AMERICAN, text, _is_north_american)
    yield from _spans(_LEADING_ZERO, text, lambda match: _is_with_zero(match, (*regions, *TRUNK_ZERO)))
    if regions:
        yield from _spans(_NO_ZERO, text, lambda match: _is_without_zero(match, tuple(regions)))
    yield from _spans(_ANY, text, _is_named)


def _spans(
    pattern: re.Pattern[str], text: str, is_number: Callable[[re.Match[str]], bool]
) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        start, end = match.span()
        closed = next((pair for pair in ("()", "[]") if match[0].count(pair[1]) > match[0].count(pair[0])), None)
        if closed:  # a pattern starts with a digit, the number (089) 1234567 does not
            if text[start - 1 : start] != closed[0]:
                continue
            start -= 1
        if is_number(match):
            yield start, end


def _is_international(match: re.Match[str]) -> bool:
    """9 to 15 digits (ITU-T E.164) in groups; with a single point it is rather a number, as ungrouped and short, where
    it is valid in no country."""
    digits = [character.isdigit() for character in match[0]].count(True)
    separators = len(match[0]) - 1 - digits
    if not separators and not 11 <= digits <= 15:
        return digits >= 7 and _is_valid(match[0])
    return 9 <= digits <= 15 and not (separators == 1 and "." in match[0]) and _is_possible(match[0])


def _is_north_american(match: re.Match[str]) -> bool:
    """Brackets, a leading 1 and hyphens are written for nothing else; spaces and points are, and sizes are."""
    number = match[0]
    groups = re.findall("[0-9]+", number)
    if "(" in number or len(groups) == 4:
        return True
    plain = any(character in number for character in " \u00a0")
    if not plain and "." not in number and any(int(group) % _SIZES for group in groups):
        return True
    before = _before(match)
    return bool(_WORD.search(before) or _CALL.search(before)) or ("." in number and before.rstrip()[-1:] in "(:")


def _is_with_zero(match: re.Match[str], regions: tuple[str, ...]) -> bool:
    return not _DATE.match(match[0]) and _is_national(match[0], regions, exact=False)


def _is_without_zero(match: re.Match[str], regions: tuple[str, ...]) -> bool:
    groups = re.findall("[0-9]+", match[0])
    a_size = all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3  # 912 345 678
    if (a_size and not _CALL.search(_before(match))) or _YEARS.fullmatch(match[0]):
        return False
    return _is_national(match[0], regions, exact=True)


def _is_named(match: re.Match[str]) -> bool:
    number = match[0]
    return bool(_WORD.search(_before(match))) and not _DATE.match(number) and not _NOBODYS.fullmatch(number)


def _before(match: re.Match[str]) -> str:
    start = match.start()
    return match.string[max(0, start - _BEFORE_CHARACTERS) : start]


@functools.lru_cache(maxsize=65_536)
def _is_national(number: str, regions: tuple[str, ...], exact: bool) -> bool:
    """Whether one of the countries writes the number in these groups; where not `exact`, whether it is valid there
    with its first group, the area code, as the country writes it."""
    import phonenumbers

    groups = re.findall("[0-9]+", number)
    if not 8 <= sum(map(len, groups)) <= 12:
        return False
    digits = "".join(groups)
    for region in regions:
        parsed = _parsed(number, digits, region)
        if parsed is None:
            continue
        written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
        usual = re.findall("[0-9]+", written)
        if usual[0] != groups[0] or len(usual) == 1:
            continue
        if exact:
            if usual == groups and phonenumbers.is_valid_number_for_region(parsed, region):
                return True
        elif usual == groups or phonenumbers.is_valid_number_for_region(parsed, region):
            return True
    return False


def _parsed(number: str, digits: str, region: str) -> "PhoneNumber | None":
    """The number as one of the country, None where none has so many digits.

    With a plain leading zero it is put together without the library's parser, which takes three fifths of the time.
    """
    import phonenumbers

    country, lengths = _trunk_zero(region)
    if lengths and digits[0] == "0":
        if len(digits) - 1 not in lengths:
            return None
        return phonenumbers.PhoneNumber(country_code=country, national_number=int(digits))
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    possible = phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
    return parsed if possible else None


@functools.cache
def _trunk_zero(region: str) -> tuple[int, frozenset[int]]:
    """The country's code, and the possible lengths without the leading 0 where that is all there is to take off."""
    from phonenumbers import PhoneMetadata

    metadata: Any = PhoneMetadata.metadata_for_region(region)
    plain = "0" in (metadata.national_prefix_for_parsing or "").split("|")
    return metadata.country_code, frozenset(metadata.general_desc.possible_length if plain else ())


@functools.lru_cache(maxsize=65_536)
def _is_possible(number: str) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE


@functools.lru_cache(maxsize=65_536)
def _is_valid(number: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False
