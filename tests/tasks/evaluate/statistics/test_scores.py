"""Lines of scores.json: which way is worse, and when an interval would be a lie."""

import numpy as np
import pytest

from flows.report.scores import compared
from flows.report.wording import difference_text
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


def test_the_change_by_fine_tuning_is_paired_and_the_report_names_the_better_by_it() -> None:
    """Items that differ widely among each other, and by little between the models: the intervals overlap."""
    base = np.arange(1, 11, dtype=np.float64)
    amounts = {"base": base, "tuned": base - 0.1}
    for higher, winner in ((False, "fine-tuned"), (True, "base"), (None, "unclear")):
        lines = score_lines(Measure("n", "m", "r", ITEMS, amounts, ONES, higher_is_better=higher), 200, 0)
        (row,) = compared(lines)
        assert lines[0].change is None and lines[1].change is not None
        assert lines[0].low < lines[1].high, "alone they overlap"  # type: ignore[operator]
        assert lines[1].change.difference == pytest.approx(-0.1)
        assert lines[1].change.high == pytest.approx(-0.1)
        assert row.winner == winner
    assert lines[1].change and difference_text(lines[1].change, lines[1]) == "-0.1 (-0.1 to -0.1)"


def test_without_an_interval_no_model_is_the_better_one() -> None:
    lines = score_lines(measure(1, 2, False, [ITEMS[0]] * 10), 100, 0)
    (row,) = compared(lines)
    assert row.winner == "unclear" and difference_text(row.change, lines[1]) == "+2"  # type: ignore[arg-type]
