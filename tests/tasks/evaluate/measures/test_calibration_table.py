"""Calibration: the definition, a known distribution, and what chance alone shows."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluate.documents import Sampled
from tasks.evaluate.measures.calibration import (
    choice_calibration,
    error_by_chance,
    first_tokens,
    reliability,
    signed_gaps,
    token_calibration,
)
from tasks.evaluate.statistics.scores import Item, score_lines


@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=200), st.integers(1, 20))
def test_the_mean_of_the_signed_gaps_is_the_expected_calibration_error(
    predictions: list[tuple[float, bool]], count: int
) -> None:
    confidence = np.array([sure for sure, _ in predictions])
    right = np.array([float(hit) for _, hit in predictions])
    bins = reliability(confidence, right, count)
    definition = sum(len(one.places) * abs(one.accuracy - one.confidence) for one in bins) / len(confidence)
    assert signed_gaps(confidence, right, bins).mean() == pytest.approx(definition, abs=1e-12)
    assert sorted(place for one in bins for place in one.places) == list(range(len(confidence)))
    sizes = [len(one.places) for one in bins]
    assert max(sizes) - min(sizes) <= 1
    assert all(one.low <= one.confidence + 1e-12 and one.confidence <= one.high + 1e-12 for one in bins)
    assert all(left.high <= right_of.low for left, right_of in pairwise(bins))


def test_perfect_calibration_shows_what_chance_shows() -> None:
    """20,000 answers that are right as often as they say. The error is a mean of 15 half-normal deviations, each of
    relative spread .76, so its own is .76 / sqrt(15) = .2; 4 such spreads are passed once in 16,000 seeds."""
    random = np.random.default_rng(0)
    confidence = random.uniform(0.1, 1, 20_000)
    right = (random.uniform(size=20_000) < confidence).astype(float)
    bins = reliability(confidence, right, 15)
    chance = error_by_chance(confidence, bins)
    assert signed_gaps(confidence, right, bins).mean() == pytest.approx(chance, rel=0.8)
    assert chance == pytest.approx(np.sqrt(2 / np.pi * 0.185 / (20_000 / 15)), rel=0.15)


def documents(count: int, tokens: int) -> tuple[list[Sampled], list[list[int]]]:
    return [Sampled(str(n), "", "files", 1) for n in range(count)], [[0] * (tokens + 1) for _ in range(count)]


def test_a_model_that_is_too_sure_has_the_error_of_its_boast() -> None:
    """Base says .9 and is right in .6 of 40,000 tokens: error and overconfidence .3, spread .6 * .4 / 200 = .0025.

    Tuned is always right and says so: both are 0. The bins say the same as the lines.
    """
    sampled, ids = documents(100, 400)

    def predict(some: object) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        random = np.random.default_rng(1)
        base = [(np.full(400, 0.9), random.uniform(size=400) < 0.6) for _ in range(100)]
        return {"base": base, "tuned": [(np.ones(400), np.ones(400, bool))] * 100}

    measures, table = token_calibration(predict, sampled, ids, 10**6)
    lines: dict[tuple[str, str], Any] = {
        (line.metric, line.model): line for one in measures for line in score_lines(one, 200, 0)
    }
    for metric in ("expected_calibration_error", "overconfidence"):
        base, tuned = lines[metric, "base"], lines[metric, "tuned"]
        assert base.value == pytest.approx(0.3, abs=0.0125)  # five spreads
        assert base.low < base.value < base.high and not base.below_baseline
        assert tuned.value == 0
    assert table["expected_calibration_error"]["base"] == lines["expected_calibration_error", "base"].value
    own = [row for row in table["bins"] if row["model"] == "base"]
    assert len(own) == 15 and sum(row["tokens"] for row in own) == 40_000
    assert {row["confidence"] for row in own} == {0.9}


def test_the_sample_of_tokens_is_bounded() -> None:
    _, ids = documents(10, 99)
    assert [len(some) for some in first_tokens(ids, 250)] == [100, 100, 50]
    assert first_tokens(ids, 10**6) == ids
    assert [len(some) for some in first_tokens(ids, 201)] == [100, 100], "a document mark alone predicts nothing"


def test_choices_are_as_sure_as_their_softmax() -> None:
    """Nats of log 3 and 0 make a confidence of 3/4, and every bin of four is right in three: no error."""
    labels = [int(number % 4 == 0) for number in range(40)]
    rows = [[np.log(3), 0.0]] * 40
    items = [Item(str(number), "files") for number in range(40)]
    measure = choice_calibration(
        "choice", items, {"base": rows, "tuned": [[0.0, -800.0]] * 40, "unigram": rows}, labels
    )
    assert measure.amounts["base"].sum() == pytest.approx(measure.amounts["unigram"].sum())
    base, tuned = score_lines(measure, 200, 0)
    assert tuned.value == pytest.approx(0.25), "always sure, right in three of four"
    assert base.value == pytest.approx(0, abs=1e-9)
    assert set(base.baselines) == {"unigram", "base_if_calibrated", "tuned_if_calibrated"}
