"""Numbers of payment cards in running text: 13 to 19 digits of a card issuer, with the check digit right.

ISO/IEC 7812-1: the first digit says the industry (2 to 6 are those of cards), the last one checks the others (Luhn's
algorithm, annex B); of other numbers one in ten passes. In groups as cards have them, between spaces or hyphens, and
beside letters of scripts that need no spaces. The pattern has bounded repeats: linear in the text.
"""

import re
from collections.abc import Iterator

CARD = "0000 0000 0000 0000"  # 0 is the industry of standards: no card's
_NUMBER = re.compile(
    r"[2-6](?<![A-Za-z0-9_.,\-+/#][2-6])[0-9]{2,5}(?:[ \-\u00a0]?[0-9]){10,15}(?![A-Za-z_]|[.,\-/]?[0-9])"
)
# Lengths of an issuer's numbers, where others are usual than 16 digits.
_ISSUED = re.compile(
    r"(?:4[0-9]{12}|3[0689][0-9]{12}|(?:3[47][0-9]{2}|2131)[0-9]{11}|[2-6][0-9]{15}"
    r"|(?=[0-9]{17,19}$)(?:4|5[0678]|6304|6011|6[257]|64[4-9])[0-9]+)$"
)
# The beginning of an international bank account number (accounts.py), of which digits in groups may pass as a card's.
_ACCOUNT = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ \u00a0]?[A-Z0-9]{4}){0,6}[ \u00a0]?$")
_NAMED = re.compile(r"(?:card|pan|cc)[\w-]{0,16}=$", re.IGNORECASE)  # other parameters of that length are ids
_BEFORE_CHARACTERS = 36


def card_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers of cards are."""
    for match in _NUMBER.finditer(text):
        digits = "".join(filter(str.isdigit, match[0]))
        before = max(0, match.start() - _BEFORE_CHARACTERS), match.start()
        if text[match.start() - 1 : match.start()] == "=" and not _NAMED.search(text, *before):
            continue
        account = _ACCOUNT.search(text, *before)
        if _ISSUED.match(digits) and not _check_sum(list(map(int, digits))) % 10 and not account:
            yield match.span()


def _check_sum(digits: list[int]) -> int:
    """Every second digit from the right is doubled, and counts as the sum of its digits."""
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits)))
