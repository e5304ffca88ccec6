"""The n-gram baselines against arithmetic by hand and against a slow, plain implementation."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate.scorers.ngrams import NgramModel

MARK = 0


def test_unigram_by_hand() -> None:
    """Tokens 1 1 2 of a vocabulary of 4: P(1) = (2 + 2/4) / (3 + 2), P(2) = (1 + 2/4) / 5, P(3) = (0 + 2/4) / 5."""
    model = NgramModel(4, 1, [[MARK, 1, 1, 2]])
    (found,) = model.log_probabilities([[MARK, 1, 2, 3]])
    assert np.exp(found) == pytest.approx([0.5, 0.3, 0.1])


def test_bigram_by_hand() -> None:
    """After 1 came 1 and 2, once each: P(2 | 1) = (1 + 2 P(2)) / (2 + 2) with P(2) = 0.3."""
    model = NgramModel(4, 2, [[MARK, 1, 1, 2]])
    (found,) = model.log_probabilities([[MARK, 1, 2]])
    assert math.exp(found[1]) == pytest.approx((1 + 2 * 0.3) / 4)


def test_no_ngram_reaches_across_documents() -> None:
    """2 follows 1 only where one document ends and the next begins, so a model of order 2 has not seen it."""
    apart = NgramModel(4, 2, [[MARK, 1], [MARK, 2]])
    joined = NgramModel(4, 2, [[MARK, 1, 2]])
    (found,), (seen,) = apart.log_probabilities([[MARK, 1, 2]]), joined.log_probabilities([[MARK, 1, 2]])
    assert found[1] < seen[1]
    assert math.exp(found[1]) == pytest.approx((1 + 2 * 0.25) / (2 + 2))  # the unigram's, by backing off


documents = st.lists(
    st.lists(st.integers(1, 5), min_size=1, max_size=12).map(lambda d: [MARK, *d]), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(documents, st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 3))
def test_equals_a_plain_implementation_and_sums_to_one(training: list[list[int]], text: list[int], order: int) -> None:
    model = NgramModel(6, order, training)
    plain = _Plain(6, order, training)
    (found,) = model.log_probabilities([[MARK, *text]])
    expected = [plain.probability(tuple(text[:place]), token) for place, token in enumerate(text)]
    assert np.exp(found) == pytest.approx(expected)
    every = model.log_probabilities([[MARK, *text, token] for token in range(6)])
    assert sum(math.exp(nats[-1]) for nats in every) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(documents, st.lists(st.integers(1, 5), max_size=4), st.integers(1, 3))
def test_most_likely_is_the_argmax_of_the_distribution(training: list[list[int]], text: list[int], order: int) -> None:
    model = NgramModel(6, order, training)
    nats = [found[-1] for found in model.log_probabilities([[MARK, *text, token] for token in range(6)])]
    best = model.most_likely([MARK, *text])
    assert nats[best] == pytest.approx(max(nats))


def test_continuations_are_scored_after_their_context() -> None:
    random_ = random.Random(1)
    training = [[MARK, *(random_.randrange(1, 30) for _ in range(200))] for _ in range(5)]
    model = NgramModel(30, 3, training)
    context, continuation = [MARK, 4, 9, 17, 3], [8, 2]
    ((nats, greedy),) = model.score_continuations([(context, continuation)])
    (whole,) = model.log_probabilities([context + continuation])
    assert nats == pytest.approx(whole[-2:].sum())
    assert not greedy
    best = model.most_likely(context)
    assert model.score_continuations([(context, [best])])[0][1]
    assert model.score_continuations([([], [4])])[0][0] == pytest.approx(model.log_probabilities([[MARK, 4]])[0][0])


class _Plain:
    """Witten-Bell interpolation as the formula reads."""

    def __init__(self, vocabulary_size: int, order: int, training: Sequence[Sequence[int]]) -> None:
        self.vocabulary_size, self.order = vocabulary_size, order
        self.counts: Counter[tuple[int, ...]] = Counter()
        for document in training:
            padded = (MARK,) * (order - 1) + tuple(document[1:])
            for place in range(order - 1, len(padded)):
                for length in range(1, order + 1):
                    self.counts[padded[place - length + 1 : place + 1]] += 1

    def probability(self, history: tuple[int, ...], token: int) -> float:
        padded = (MARK,) * (self.order - 1) + history
        return self._level(padded[len(padded) - self.order + 1 :], token)

    def _level(self, history: tuple[int, ...], token: int) -> float:
        lower = self._level(history[1:], token) if history else 1 / self.vocabulary_size
        followers = [self.counts[(*history, other)] for other in range(self.vocabulary_size)]
        total, types = sum(followers), sum(count > 0 for count in followers)
        return (self.counts[(*history, token)] + types * lower) / (total + types) if total else lower
