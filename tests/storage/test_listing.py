"""Long lists in messages: the first entries and the count of the others."""

import pytest

from storage.listing import first_few


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, ""), (2, "0, 1"), (3, "0, 1, and 1 more"), (1_236, "0, 1, and 1,234 more")],
)
def test_only_what_is_left_out_is_counted(count: int, shown: str) -> None:
    assert ", ".join(first_few([str(number) for number in range(count)], 2)) == shown


def test_it_says_more_of_what() -> None:
    assert first_few(["a", "b", "c"], 1, "figures") == ["a", "and 2 more figures"]
