"""Texts and numbers as people read them."""

import pytest

from tasks.wording import clipped, cut


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("short", "short", "short"),
        ("exactly 12 c", "exactly 12 c", "exactly 12 c"),
        ("one\n two  three four", "one two t...", "...hree four"),
    ],
)
def test_a_clipped_text_is_one_line_of_at_most_so_many_columns(text: str, begins: str, ends: str) -> None:
    assert clipped(text, 12) == begins and clipped(text, 12, keep_end=True) == ends


def test_a_cut_text_keeps_its_white_space() -> None:
    assert cut("a\n  b  c", 8) == "a\n  b  c" and cut("a\n  b  c\n", 8) == "a\n  b..."
