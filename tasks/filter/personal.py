"""Personal data and secrets in what people type: found where texts are judged, replaced in what is kept of users.

It is the filter's redaction (redact.py) and what people write and documents seldom: numbers of mobile telephones
without any grouping, where the country is known and has no other such number.

Whose telephone numbers are likely (phones.py) says the language that the text is likely to be in; of a few words, from
which none is clear, the script.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence

from storage.documents import UNDETERMINED
from tasks.filter.language import language_of
from tasks.filter.phones import countries_of
from tasks.filter.redact import KINDS, PHONE, parted, redact

_ALONE = re.compile(r"(?<![\w.,\-+/#=:])[0-9]{10,11}(?![\w\-/]|[.,:][0-9])")
_WITHOUT_ZERO = ("IN",)  # where a mobile number is written without the leading 0 that a call needs
_BY_SCRIPT = {  # the first word of Unicode's names of letters -> the language of most who write them
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "DEVANAGARI": "hi",
}


def without_personal_data(text: str) -> str:
    """The text with secrets, e-mail addresses, numbers of cards and telephones and public IP addresses replaced by
    nobody's."""
    language, _ = language_of(text, "", ())
    if language == UNDETERMINED:
        scripts = (unicodedata.name(letter, "").partition(" ")[0] for letter in text if not letter.isascii())
        language = next((_BY_SCRIPT[script] for script in scripts if script in _BY_SCRIPT), UNDETERMINED)
    return redact_personal(text, KINDS, countries_of(language))[0]


def redact_personal(text: str, kinds: Sequence[str], regions: Sequence[str] = ()) -> tuple[str, int]:
    """The text with what is found replaced, and how much was; `regions` as in redact.py, `kinds` of KINDS."""
    redacted, counts = redact(text, kinds, regions)
    if "phone" not in kinds or not regions:
        return redacted, sum(counts.values())
    redacted, mobiles = _redact_mobiles(redacted, tuple(regions))
    return redacted, sum(counts.values()) + mobiles


def _redact_mobiles(text: str, regions: tuple[str, ...]) -> tuple[str, int]:
    count = 0

    def substitute(match: re.Match[str]) -> str:
        nonlocal count
        if not _is_mobile(match[0], regions):
            return match[0]
        count += 1
        return PHONE

    apart, mark = parted(text)
    redacted = _ALONE.sub(substitute, apart)
    return (redacted.replace(mark, "") if count else text), count


@functools.lru_cache(maxsize=65_536)
def _is_mobile(digits: str, regions: tuple[str, ...]) -> bool:
    """Whether it is a valid mobile number of one of the countries, with the digits that are written there."""
    import phonenumbers

    for region in regions:
        try:
            parsed = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            continue
        written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
        usual = "".join(filter(str.isdigit, written))
        mobile = phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.MOBILE
        if mobile and (digits == usual or (region in _WITHOUT_ZERO and f"0{digits}" == usual)):
            return True
    return False
