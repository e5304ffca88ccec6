"""Paired statistics: against scipy, against brute force, and what a gate may conclude from them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from tasks.statistics.compare import (
    Answers,
    Comparison,
    compare,
    is_inferior,
    is_non_inferior,
    is_superior,
    mcnemar,
)

counts = st.integers(0, 400)


def ratios(amounts: ArrayLike, weights: ArrayLike) -> Answers:
    return Answers(np.array(amounts, float), np.array(weights, float))


def right(answers: list[int]) -> Answers:
    return ratios(answers, [1] * len(answers))


@given(counts, counts)
def test_mcnemar_is_the_exact_binomial_test(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse, 0.5).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    """Of 6 items that differ all go one way: 2 / 2^6."""
    assert mcnemar(6, 0) == mcnemar(0, 6) == pytest.approx(2 / 64)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Answers, Answers, list[str]]:
    size = draw(st.integers(2, 12))
    amount, weight = st.floats(0, 50), st.integers(1, 40)
    column = lambda values: draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    documents = [f"d{number}" for number in column(st.integers(0, 3))]
    return ratios(column(amount), column(weight)), ratios(column(amount), column(weight)), documents


def brute_force(old: Answers, new: Answers, documents: list[str], draws: int, seed: int) -> tuple[float, float]:
    """The bootstrap item by item, a draw at a time."""
    order = list(dict.fromkeys(documents))
    random = np.random.default_rng(seed)
    differences = []
    for _ in range(draws):
        drawn = [order[number] for number in random.integers(len(order), size=len(order))]
        items = [item for document in drawn for item, owner in enumerate(documents) if owner == document]
        figures = [one.amounts[items].sum() / one.weights[items].sum() for one in (old, new)]
        differences.append(figures[1] - figures[0])
    return tuple(np.quantile(differences, (0.025, 0.975)).tolist())


@settings(max_examples=25, deadline=None)
@given(pairs())
def test_the_interval_is_that_of_whole_documents_drawn_alike_for_both(
    pair: tuple[Answers, Answers, list[str]],
) -> None:
    old, new, documents = pair
    found = compare(old, new, documents, kind="ratio", higher_is_better=False, draws=50, seed=3)
    if len(set(documents)) == 1:
        assert found.low is found.high is None
        assert not is_superior(found) and not is_inferior(found) and not is_non_inferior(found, 1e9)
    else:
        assert (found.low, found.high) == pytest.approx(brute_force(old, new, documents, 50, 3), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(pairs(), st.booleans())
def test_swapping_the_models_turns_everything_round(
    pair: tuple[Answers, Answers, list[str]], higher_is_better: bool
) -> None:
    old, new, documents = pair

    def between(first: Answers, second: Answers) -> Comparison:
        return compare(first, second, documents, kind="ratio", higher_is_better=higher_is_better, draws=40)

    there, back = between(old, new), between(new, old)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.better, there.worse) == (back.worse, back.better)
    assert is_superior(there) == is_inferior(back)


def test_a_model_against_itself_differs_in_nothing() -> None:
    answers = right([0, 1, 1, 0, 1])
    found = compare(answers, answers, list("abcde"), kind="proportion", higher_is_better=True)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert not is_superior(found) and is_non_inferior(found, 0.01) and not is_non_inferior(found, 0.0)


def test_pairing_sees_what_two_separate_intervals_do_not() -> None:
    """Items from 0 to 100 bits a byte, the new model better by a tenth of a bit on each, give or take as much."""
    random = np.random.default_rng(1)
    amounts = random.uniform(0, 100, 200)
    old, new = ratios(amounts, np.ones(200)), ratios(amounts - 0.1 + random.normal(0, 0.1, 200), np.ones(200))
    found = compare(old, new, [str(number) for number in range(200)], kind="ratio", higher_is_better=False)
    assert is_superior(found) and found.low is not None and found.high is not None
    assert found.high - found.low < 0.05, "the spread of the items themselves is gone"
    assert not is_non_inferior(
        compare(new, old, [str(number) for number in range(200)], kind="ratio", higher_is_better=False), 0.05
    )


def test_perplexity_is_compared_as_perplexity() -> None:
    old, new = ratios([2.0, 2.0], [1, 1]), ratios([1.0, 1.0], [1, 1])
    found = compare(old, new, ["a", "b"], kind="exponential", higher_is_better=False)
    assert found.difference == pytest.approx(math.e - math.e**2) == pytest.approx(found.low)


def test_perplexities_too_large_for_a_number_compare_as_equal() -> None:
    """e to 2000 is not a float: infinity less infinity would not be a number, nor the verdict JSON."""
    old, new = ratios([2000.0, 2001.0], [1, 1]), ratios([3000.0, 3001.0], [1, 1])
    found = compare(old, new, ["a", "b"], kind="exponential", higher_is_better=False)
    assert (found.old, found.new, found.difference, found.low, found.high) == (1e300, 1e300, 0, 0, 0)


def test_a_p_value_is_given_for_right_and_wrong_only() -> None:
    credit = ratios([0.5, 1, 0], [1, 1, 1])
    found = compare(credit, right([1, 1, 0]), list("abc"), kind="proportion", higher_is_better=True)
    assert found.p_value is None and (found.better, found.worse) == (1, 0)


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="do not pair"):
        compare(right([1]), right([1, 0]), ["a"], kind="proportion", higher_is_better=True)
    with pytest.raises(ValueError, match="do not pair"):
        compare(right([]), right([]), [], kind="proportion", higher_is_better=True)


def test_a_figure_without_a_direction_has_no_winner() -> None:
    old, new = right([0] * 40), right([1] * 40)
    found = compare(old, new, [str(n) for n in range(40)], kind="proportion", higher_is_better=None)
    assert (found.difference, found.better, found.worse) == (1, 40, 0)
    assert not is_superior(found) and not is_inferior(found) and not is_non_inferior(found, 1)
