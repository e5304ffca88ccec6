"""Intervals: known values, coverage by simulation, and clustering that widens them."""

import math

import numpy as np
import pytest

from tasks.statistics.intervals import (
    LARGEST,
    as_clusters,
    bootstrap_ratio,
    design_effect,
    exponential,
    finite,
    rounded,
    wilson,
)


def test_wilson_agrees_with_the_published_formula() -> None:
    """8 right of 10, each its own document: 0.490 to 0.943 (Wilson 1927; as in Newcombe 1998's method 3)."""
    values = np.array([1.0] * 8 + [0.0] * 2)
    mean, low, high = wilson(values, np.arange(10))
    assert mean == 0.8
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)


def test_wilson_does_not_collapse_when_nothing_is_right() -> None:
    mean, low, high = wilson(np.zeros(20), np.arange(20))
    assert mean == low == 0
    assert wilson(np.ones(20), np.arange(20))[2] == 1
    assert high == pytest.approx(0.161, abs=1e-3)


def test_items_that_repeat_their_document_count_once() -> None:
    """Ten copies of each answer say no more than one: the interval is (almost) that of the originals."""
    random = np.random.default_rng(0)
    once = (random.random(60) < 0.5).astype(float)
    copied, clusters = np.repeat(once, 10), np.repeat(np.arange(60), 10)
    assert design_effect(copied, clusters) == pytest.approx(10, rel=0.05)
    assert wilson(copied, clusters) == pytest.approx(wilson(once, np.arange(60)), abs=0.01)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """200 samples of 80 documents with a true ratio of 2: coverage 95 % +- 4.6 points (3 standard errors), and the
    percentile interval of a ratio is known to fall a little short."""
    random = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        weights = random.integers(100, 1000, 80).astype(float)
        amounts = weights * 2 + random.normal(0, 100, 80)
        _, low, high = bootstrap_ratio(amounts, weights, np.arange(80), 300, seed)
        covered += low <= 2 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_value_is_the_ratio_of_sums_and_equal_for_equal_seeds() -> None:
    amounts, weights = np.array([1.0, 5.0, 3.0]), np.array([1.0, 1.0, 4.0])
    first = bootstrap_ratio(amounts, weights, np.arange(3), 500, 3)
    assert first[0] == 9 / 6
    assert first == bootstrap_ratio(amounts, weights, np.arange(3), 500, 3)
    assert first[1] < first[0] < first[2]


@pytest.mark.parametrize(
    ("value", "written"), [(1.234567, 1.2346), (0.00123456, 0.0012346), (123456.0, 123460.0), (0.0, 0.0)]
)
def test_rounded_keeps_five_significant_digits(value: float, written: float) -> None:
    assert rounded(value) == written


def test_rounded_leaves_infinity_alone() -> None:
    assert math.isinf(rounded(math.inf))


def test_an_exponential_has_a_bound_and_is_exact_below_it() -> None:
    assert exponential(2.5) == pytest.approx(math.exp(2.5))
    assert exponential(690.0) == pytest.approx(math.exp(690.0))
    assert list(exponential(np.array([691.0, 709.0, 1e6, math.inf]))) == [LARGEST] * 4
    assert math.isnan(float(exponential(math.nan)))


def test_json_gets_no_infinity_and_no_nan() -> None:
    values = (0.123456, 0.0, math.inf, -math.inf, math.nan)
    assert [finite(value) for value in values] == [0.12346, 0.0, None, None, None]


def test_clusters_count_from_zero_in_order_of_appearance() -> None:
    assert as_clusters(["b", "a", "b"]).tolist() == [0, 1, 0]


def test_the_design_effect_by_hand() -> None:
    """Two documents of two items each, one all right and one all wrong: residuals 1 and -1, so 2 x 2/1 = 4, against
    0.5 x 0.5 x 4 x 4/3 under independence. Three documents of one item each are independent: 1."""
    assert design_effect(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])) == pytest.approx(4 / (4 / 3))
    assert design_effect(np.array([1.0, 0.0, 0.0]), np.arange(3)) == pytest.approx(1)
    assert design_effect(np.array([1.0, 0.0, 1.0]), np.zeros(3, int)) == 1, "one document: nobody knows"


def test_a_zero_has_no_sign_and_a_large_exponential_no_warning() -> None:
    assert math.copysign(1, rounded(-0.0)) == 1
    with np.errstate(over="raise"):
        assert exponential(np.array([0.0, 1e6])).tolist() == [1, 1e300]
