"""Texts and numbers as people read them."""

import pytest

from tasks.wording import as_per_cent, clipped, cut, signed


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


@pytest.mark.parametrize(
    ("difference", "shown"),
    [(0.0, "+0"), (0.041234, "+0.0412"), (-12.5, "-12.5"), (-0.0000123, "-1.23e-05"), (-12_345.6, "-12,346")],
)
def test_a_difference_has_its_sign_and_fits_nine_characters(difference: float, shown: str) -> None:
    assert signed(difference) == shown and len(shown) <= 9


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, "0"), (0.4123, "41.2"), (0.95, "95"), (0.999, "99.9"), (0.00012, "0.012"), (1.0, "100")]
)
def test_a_share_is_per_cent_and_stays_on_one_line(share: float, shown: str) -> None:
    assert as_per_cent(share) == f"{shown}\u00a0%"
