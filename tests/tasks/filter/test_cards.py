"""Numbers of payment cards are replaced, and numbers that only look like one are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.filter.cards import CARD
from tasks.filter.personal import without_personal_data
from tasks.filter.redact import redact

# Test numbers that issuers publish: no account is behind them.
CARDS = ("4111111111111111", "5500000000000004", "378282246310005", "6011000990139424", "3530111333300000")


def redact_cards(text: str) -> tuple[str, int]:
    redacted, counts = redact(text, ("card",))
    return redacted, counts["card"]


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize("written", ["{}", "my card is {}.", "karte:{},", "({})", "卡号{}。", "कार्ड {} है"])
@pytest.mark.parametrize("separator", ["", " ", "-"])
def test_a_card_is_replaced(number: str, written: str, separator: str) -> None:
    groups = [number[start : start + 4] for start in range(0, len(number), 4)]
    text, count = redact_cards(written.format(separator.join(groups)))
    assert count == 1 and text == written.format(CARD)
    assert redact_cards(text) == (text, 0), "a second pass changes nothing"


@pytest.mark.parametrize(
    "text",
    ["4111111111111112", "1234567890123452", "0x4111111111111111", "4111111111111111.5", "4111 1111 1111", CARD],
)
def test_other_numbers_stay(text: str) -> None:
    assert redact_cards(text) == (text, 0)


@given(some.integers(2 * 10**14, 7 * 10**14 - 1))
def test_any_wrong_digit_is_seen(number: int) -> None:
    """Luhn's check finds each single wrong digit, so of ten last digits exactly one makes a card."""
    assert sum(redact_cards(f"{number}{digit}")[1] for digit in range(10)) == 1


def test_a_card_is_no_telephone_number() -> None:
    assert without_personal_data(f"phone {CARDS[0]}, call 020 7946 0018") == "phone 555-0100, call 555-0100"
    assert without_personal_data("the river at 12:30, 1,234,567 drops") == "the river at 12:30, 1,234,567 drops"
