"""Numbers of payment cards in running text: 13 to 19 digits of a card issuer, with the check digit right.

ISO/IEC 7812-1: the first digit says the industry (2 to 6 are those of cards), the last one checks the others (Luhn's
algorithm, annex B); of other numbers one in ten passes. In groups as cards have them, between spaces or hyphens, and
beside letters of scripts that need no spaces. The pattern has bounded repeats: linear in the text.
"""

import re

CARD = "0000 0000 0000 0000"  # 0 is the industry of standards: no card's
_NUMBER = re.compile(
    r"[2-6](?<![A-Za-z0-9_.,\-+/#=][2-6])[0-9]{2,5}(?:[ \-\u00a0]?[0-9]){10,15}(?![A-Za-z_]|[.,\-/]?[0-9])"
)


def redact_cards(text: str) -> tuple[str, int]:
    """The text with CARD for each number, and how many there were."""
    count = 0

    def substitute(match: re.Match[str]) -> str:
        nonlocal count
        digits = [int(letter) for letter in match[0] if letter.isdigit()]
        if not 13 <= len(digits) <= 19 or _check_sum(digits) % 10:
            return match[0]
        count += 1
        return CARD

    return _NUMBER.sub(substitute, text), count


def _check_sum(digits: list[int]) -> int:
    """Every second digit from the right is doubled, and counts as the sum of its digits."""
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits)))
