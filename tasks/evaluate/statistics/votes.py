"""Models ranked by people's votes between two answers: Bradley and Terry 1952.

A model's strength is such that i wins over j with probability e^(s_i - s_j) / (1 + e^(s_i - s_j)); the likeliest
strengths are found together, so that models that never met are compared through those that both met. A tie is half a
win for each (so is a vote that both are bad). Each pair that met gets one tie more: without it a model that never lost
would have no finite strength (Ford 1957).

Intervals: the Bayesian bootstrap (Rubin 1981), which weighs votes at random in place of drawing them; three wins of
three do not make it sure of a fourth. Votes are taken as independent. Points are those of chess (Elo): 400 of them are
odds of ten to one, and the mean of a group is 1000. Models in different groups were never compared, not even through
others: their points say nothing of each other.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.feedback import Preference

MEAN, POINTS = 1000.0, 400 / math.log(10)
DRAWS, SEED, CONFIDENCE = 1000, 1337, 0.95
PRECISION, MOST_STEPS = 1e-9, 200  # of a lead; one of e^100 to 1 takes 100 steps
FEW = 30  # votes; of fewer the interval hangs on the tie that each pair gets
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Standing:
    """A model among those of its group, with its 95 % interval and how often it was the best in the bootstrap."""

    model: str
    group: int
    points: float
    low: float
    high: float
    best: float
    wins: int
    losses: int
    ties: int
    both_bad: int

    @property
    def votes(self) -> int:
        """How often it was voted on."""
        return self.wins + self.losses + self.ties + self.both_bad


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two models, the first by name first, and what people said of them."""

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    both_bad: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """All models, group by group (the largest first), the strongest first; and whether people prefer a place."""

    standings: tuple[Standing, ...]
    meetings: tuple[Meeting, ...]
    decided: int  # votes for one of two
    decided_for_a: int  # for the one that was shown first


def rank(votes: Iterable[tuple[str, str, Preference]], draws: int = DRAWS, seed: int = SEED) -> Ranking:
    """Rank the models of votes (model a, model b, choice). Their order makes no difference."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    decided: Counter[str] = Counter()
    for model_a, model_b, choice in votes:
        decided[choice] += 1
        forward = model_a < model_b
        pair = (model_a, model_b) if forward else (model_b, model_a)
        said = {"a": "wins" if forward else "losses", "b": "losses" if forward else "wins"}.get(choice, choice)
        counts.setdefault(pair, Counter())[said] += 1
    meetings = tuple(
        Meeting(*pair, said["wins"], said["losses"], said["tie"], said["both_bad"])
        for pair, said in sorted(counts.items())
    )
    models = sorted({model for pair in counts for model in pair})
    standings = _standings(models, meetings, draws, seed) if models else []
    return Ranking(tuple(standings), meetings, decided["a"] + decided["b"], decided["a"])


def _standings(models: list[str], meetings: tuple[Meeting, ...], draws: int, seed: int) -> list[Standing]:
    places = {model: place for place, model in enumerate(models)}
    pairs = np.array([[places[one.first], places[one.second]] for one in meetings])
    counts = np.array([[one.wins, one.losses, one.ties + one.both_bad + 1] for one in meetings], np.float64)
    groups = _groups(pairs, len(models))
    random = np.random.default_rng(seed)
    drawn = _points(_strengths(pairs, random.gamma(counts, size=(draws, *counts.shape)), groups), groups)
    likeliest = _points(_strengths(pairs, counts[None], groups), groups)[0]
    low, high = np.quantile(drawn, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2), axis=0)
    best = np.zeros(len(models))
    for group in range(groups.max() + 1):
        (members,) = np.nonzero(groups == group)
        best[members] = np.bincount(drawn[:, members].argmax(axis=1), minlength=len(members)) / draws
    standings = [
        Standing(
            model,
            int(groups[place]),
            float(likeliest[place]),
            float(low[place]),
            float(high[place]),
            float(best[place]),
            **_sums(model, meetings),
        )
        for model, place in places.items()
    ]
    return sorted(standings, key=lambda one: (one.group, -round(one.points, 6), one.model))


def _sums(model: str, meetings: Iterable[Meeting]) -> dict[str, Any]:
    sums = Counter[str]()
    for one in meetings:
        if model in (one.first, one.second):
            wins, losses = (one.wins, one.losses) if model == one.first else (one.losses, one.wins)
            sums.update(wins=wins, losses=losses, ties=one.ties, both_bad=one.both_bad)
    return {name: sums[name] for name in ("wins", "losses", "ties", "both_bad")}


def _groups(pairs: NDArray[np.int64], models: int) -> NDArray[np.int64]:
    """The group of each model, (models,): the largest is 0, of equal ones that of the first name."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    met = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(models, models))
    number, labels = connected_components(met, directed=False)
    sizes = np.bincount(labels)
    firsts = [int(np.argmax(labels == label)) for label in range(number)]
    order = sorted(range(number), key=lambda label: (-sizes[label], firsts[label]))
    return np.array([order.index(label) for label in labels])


def _strengths(pairs: NDArray[np.int64], counts: Floats, groups: NDArray[np.int64]) -> Floats:
    """The likeliest strengths (draws, models) for each draw of the wins, losses and ties of pairs (draws, pairs, 3).

    Newton's method for all draws at once. No step changes a lead by more than 1: so far the surprise of a logistic
    model is bounded by that of its parabola (Bach 2010, proposition 1), and each step makes it less.
    """
    first, second = pairs.T
    wins, losses = counts[..., 0] + counts[..., 2] / 2, counts[..., 1] + counts[..., 2] / 2
    total = (wins + losses).sum(axis=1, keepdims=True)
    wins, losses = wins / total, losses / total
    signs = np.zeros((len(pairs), len(groups)))  # by which a model's strength counts in a pair's lead
    signs[range(len(pairs)), first], signs[range(len(pairs)), second] = 1, -1
    free = (groups[:, None] == groups).astype(np.float64)  # a group's mean makes no difference: it stays 0
    strengths = np.zeros((len(counts), len(groups)))
    for _ in range(MOST_STEPS):
        won = 1 / (1 + np.exp(-strengths @ signs.T))
        slope = (losses * won - wins * (1 - won)) @ signs
        bend = np.einsum("dp,pi,pj->dij", (wins + losses) * won * (1 - won), signs, signs) + free
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        largest = np.abs(step @ signs.T).max(axis=1, keepdims=True)
        strengths -= step / np.maximum(largest, 1)
        if largest.max() < PRECISION:
            break
    return strengths


def _points(strengths: Floats, groups: NDArray[np.int64]) -> Floats:
    """Points of strengths, both (draws, models): the mean of each group is MEAN."""
    points = np.empty_like(strengths)
    for group in range(groups.max() + 1):
        members = groups == group
        centred = strengths[:, members] - strengths[:, members].mean(axis=1, keepdims=True)
        points[:, members] = MEAN + POINTS * centred
    return points
