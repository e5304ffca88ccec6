"""Two models on the same items: the paired difference, how sure it is, and which items changed.

Pairing takes out what the items have in common: 1,000 items that two models answer alike except 15 % show a gain of
five points with probability 0.98, and with 0.70 if the two scores are compared as if they came from different items.

- ratios of sums (bits per byte, perplexity): paired bootstrap, whole documents drawn with replacement (Efron and
  Tibshirani 1993, chapter 8), the same ones for both models: 95 % percentile interval of the difference;
- right or wrong answers: the same interval, and McNemar's exact test (McNemar 1947): among the items that only one
  model has right, either model is as likely; it takes items as independent.

A gate asks `is_superior` of its main figure and `is_non_inferior` of its guards; both take the worse end of the
interval, so each is a one-sided test at 2.5 %.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.statistics.intervals import Floats, as_clusters, bootstrap, cluster_sums, exponential
from tasks.statistics.outcome import Outcome

Kind = Literal["ratio", "exponential", "proportion"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model made of some items: `amounts` and `weights` are (items,), as in items.parquet."""

    amounts: Floats
    weights: Floats

    @property
    def values(self) -> Floats:
        """The figure of each item by itself; 0 where an item has no weight."""
        return np.divide(self.amounts, self.weights, out=np.zeros(len(self.amounts)), where=self.weights != 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`difference` is new less old, `low` to `high` its 95 % interval: None where all items are of one document.

    `better` and `worse` count the items on which the new model is so, or is higher and lower where neither way is
    better (`higher_is_better` None: no gain, no loss); `p_value` is McNemar's, for right or wrong answers only.
    """

    items: int
    documents: int
    old: float
    new: float
    difference: float
    low: float | None
    high: float | None
    better: int
    worse: int
    p_value: float | None
    higher_is_better: bool | None

    @property
    def least_gain(self) -> float | None:
        """The worse end of the interval, as a gain: positive where the new model is better beyond doubt."""
        if self.low is None or self.high is None or self.higher_is_better is None:
            return None
        return self.low if self.higher_is_better else -self.high

    @property
    def most_gain(self) -> float | None:
        """The better end of the interval, as a gain: negative where the new model is worse beyond doubt."""
        if self.low is None or self.high is None or self.higher_is_better is None:
            return None
        return self.high if self.higher_is_better else -self.low


def compare(
    old: Answers,
    new: Answers,
    documents: list[str],
    *,
    kind: Kind,
    higher_is_better: bool | None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 1337,
) -> Comparison:
    """Compare two models on the same items, given in the same order; `documents` names the document of each.

    `confidence` is the share of the bootstrap's differences that the interval holds.
    Raises ValueError for lengths that differ or no item at all.
    """
    if not len(old.amounts) == len(new.amounts) == len(documents) > 0:
        raise ValueError(f"{len(old.amounts)}, {len(new.amounts)} answers and {len(documents)} documents do not pair")
    clusters = as_clusters(documents)
    count = int(clusters.max()) + 1
    sums = [cluster_sums(values, clusters) for values in (old.amounts, old.weights, new.amounts, new.weights)]
    before, after = (_figure(top.sum(), bottom.sum(), kind) for top, bottom in (sums[:2], sums[2:]))

    def change(top_old: Floats, bottom_old: Floats, top_new: Floats, bottom_new: Floats) -> Floats:
        return _figure(top_new, bottom_new, kind) - _figure(top_old, bottom_old, kind)

    low, high = bootstrap(sums, change, draws, seed, confidence) if count > 1 else (None, None)
    sign = -1 if higher_is_better is False else 1
    gains = sign * (new.values - old.values)
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    exact = kind == "proportion" and _are_right_or_wrong(old) and _are_right_or_wrong(new)
    return Comparison(
        len(documents),
        count,
        float(before),
        float(after),
        float(after - before),
        low,
        high,
        better,
        worse,
        mcnemar(better, worse) if exact else None,
        higher_is_better,
    )


def mcnemar(only_new: int, only_old: int) -> float:
    """Two-sided exact p-value of McNemar's test from the items that only one of two models has right."""
    from scipy.special import bdtr

    discordant = only_new + only_old
    return min(1.0, 2 * float(bdtr(min(only_new, only_old), discordant, 0.5))) if discordant else 1.0


def is_superior(comparison: Comparison) -> bool:
    """Whether the new model is better beyond doubt: the whole interval is a gain."""
    gain = comparison.least_gain
    return gain is not None and gain > 0


def is_inferior(comparison: Comparison) -> bool:
    """Whether the new model is worse beyond doubt."""
    gain = comparison.most_gain
    return gain is not None and gain < 0


def outcome(comparison: Comparison) -> Outcome:
    """Better or worse where the whole interval says so, else unclear."""
    if is_superior(comparison):
        return Outcome.BETTER
    return Outcome.WORSE if is_inferior(comparison) else Outcome.UNCLEAR


def is_non_inferior(comparison: Comparison, margin: float) -> bool:
    """Whether a loss of `margin` (0 or more, in the figure's own unit) can be ruled out."""
    if margin < 0:
        raise ValueError(f"margin {margin}: a loss that is accepted is 0 or more")
    gain = comparison.least_gain
    return gain is not None and gain > -margin


def _figure(amounts: Floats | float, weights: Floats | float, kind: Kind) -> Floats:
    ratio = np.divide(amounts, weights)
    return exponential(ratio) if kind == "exponential" else np.asarray(ratio)


def _are_right_or_wrong(answers: Answers) -> bool:
    return bool(np.isin(answers.amounts, (0, 1)).all() and (answers.weights == 1).all())
