"""Lines of scores.json: which way is worse, and when an interval would be a lie."""

import numpy as np
import pytest

from tasks.evaluate.statistics.scores import Item, Measure, missing_lines, score_lines

ITEMS = [Item(f"document{number}", "files") for number in range(10)]
ONES = np.ones(10)


def measure(base: float, baseline: float, higher_is_better: bool | None, items: list[Item] = ITEMS) -> Measure:
    amounts = {"base": ONES * base, "tuned": ONES * 3, "trigram": ONES * baseline}
    return Measure("name", "metric", "rule", items, amounts, ONES, higher_is_better=higher_is_better)


@pytest.mark.parametrize(
    ("base", "higher_is_better", "below"), [(1, False, False), (1, True, True), (4, False, True), (4, True, False)]
)
def test_below_means_worse_in_the_direction_of_the_metric(base: float, higher_is_better: bool, below: bool) -> None:
    line = score_lines(measure(base, 2, higher_is_better), draws=100, seed=0)[0]
    assert (line.model, line.value, line.below_baseline) == ("base", base, below)
    assert line.baselines == {"trigram": 2}


def test_a_finding_without_a_direction_is_never_below() -> None:
    for value in (1, 4):
        assert not score_lines(measure(value, 2, None), 100, 0)[0].below_baseline


def test_equal_to_a_baseline_is_not_below_it() -> None:
    for higher_is_better in (True, False):
        assert not score_lines(measure(2, 2, higher_is_better), 100, 0)[0].below_baseline


def test_items_of_one_document_have_no_interval() -> None:
    line = score_lines(measure(1, 2, False, [ITEMS[0]] * 10), 100, 0)[0]
    assert (line.value, line.low, line.high) == (1, None, None)
    assert "one document" in line.note


def test_a_figure_that_is_missing_says_why() -> None:
    lines = missing_lines("choice", "accuracy", "needs 8 items", 3)
    assert [(line.model, line.value, line.items, line.note) for line in lines] == [
        ("base", None, 3, "not enough held-out documents"),
        ("tuned", None, 3, "not enough held-out documents"),
    ]
