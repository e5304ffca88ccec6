"""What a text is not looked through for is not in it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.filter.accounts import iban_spans
from tasks.filter.cards import card_spans
from tasks.filter.phones import phone_spans
from tasks.filter.prescan import impossible_kinds
from tasks.filter.secrets import secret_spans
from tasks.filter.ssn import ssn_spans

FINDERS = {
    "secret": secret_spans,
    "iban": iban_spans,
    "card": card_spans,
    "ssn": ssn_spans,
    "phone": lambda text: phone_spans(text, ("DE", "ES")),
}
PLANTED = {
    "secret": (
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "token = 'aB3dE5fG7hJ9kL1mN3pQ5'",
        "-----BEGIN PRIVATE KEY-----",
        "AKIAABCDEFGHIJKLMNOP",
    ),
    "iban": ("DE89 3704 0044 0532 0130 00", "NO9386011117947", "GB82 WEST 1234 5698 7654 32"),
    "card": ("4111 1111 1111 1111", "4111111111111111", "3782-822463-10005"),
    "ssn": ("123-45-6789", "ssn 123 45 6789", "SSN: 123456789"),
    "phone": ("+49 30 901820", "(212) 555-7890", "089/1234567", "912 34 56 78", "Tel. 123 45 67", "01 42 68 53 00"),
}
MARKS = st.sampled_from(
    [" ", "\u00a0", "-", "\u2013", "\u2011", "\u2010", ".", "/", "  ", ") (", "", "磨坊", "ข้อ", "\n"]
)
PIECES = st.sampled_from([one for items in PLANTED.values() for one in items] + ["Die Mühle 1998", "पानी 12", "a" * 15])


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("around", ["{}", "的{}。", "Die Mühle: {} war alt.", "ข้อ {} ก", "1998 {} 12"])
def test_a_kind_that_is_there_is_looked_for(kind: str, around: str) -> None:
    for item in PLANTED[kind]:
        text = around.format(item)
        found = bool(list(FINDERS[kind](text)))
        assert found or around != "{}", f"{item} by itself is one"
        assert not (found and kind in set(impossible_kinds(text))), text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PIECES, MARKS), max_size=5), MARKS, MARKS)
def test_what_is_found_was_possible(parts: list[tuple[str, str]], space: str, hyphen: str) -> None:
    text = "".join(piece.replace(" ", space).replace("-", hyphen) + mark for piece, mark in parts)
    impossible = set(impossible_kinds(text))
    assert not {kind for kind in impossible if list(FINDERS[kind](text))}, text


def test_prose_is_looked_through_for_nothing_of_what_costs_much() -> None:
    prose = "The mill was built in 1998 by the river. Die Mühle ist alt. 磨坊主人磨着谷物。 " * 20
    assert set(impossible_kinds(prose)) == set(FINDERS)
