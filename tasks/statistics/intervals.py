"""Intervals for figures: every one that llmill prints comes with the number of its items and a 95 % interval.

Items of one document are not independent (a document about networks gives ten items about networks), so both
methods treat the document as the unit:

- sums and ratios of sums (bits per byte, perplexity): percentile bootstrap over documents (Efron 1979), vectorised:
  1,000 draws of 500 documents take a few milliseconds;
- proportions (accuracy): Wilson's interval (Wilson 1927), which stays inside [0, 1] and does not collapse at 0 or
  1, with the number of items divided by the design effect of the clustering (Kish 1965).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Z_95 = 1.959963984540054  # two-sided 95 % point of the normal distribution
LARGEST = 1e300  # an exponential ends here: JSON knows no infinity, and differences of two stay finite
_DRAWS_AT_ONCE = 1 << 21  # indices held in memory by one step of the bootstrap


def cluster_sums(values: Floats, clusters: Integers) -> Floats:
    """Sum of `values` (items,) over the items of each cluster: (clusters,); `clusters` counts from 0."""
    return np.bincount(clusters, weights=values).astype(np.float64)


def bootstrap(
    sums: Sequence[Floats], figure: Callable[..., Floats], draws: int, seed: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of `figure(*sums)`, whole clusters drawn with replacement; each of `sums` is (clusters,)."""
    count = len(sums[0])
    random = np.random.default_rng(seed)
    found = np.empty(draws)
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, draws, step):
        chosen: Integers = random.integers(count, size=(min(step, draws - start), count))
        found[start : start + step] = figure(*(values[chosen].sum(1) for values in sums))
    low, high = np.quantile(found, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return float(low), float(high)


def bootstrap_ratio(
    amounts: Floats, weights: Floats, clusters: Integers, draws: int, seed: int
) -> tuple[float, float, float]:
    """sum(amounts) / sum(weights) and its 95 % percentile interval."""
    top, bottom = cluster_sums(amounts, clusters), cluster_sums(weights, clusters)
    return float(top.sum() / bottom.sum()), *bootstrap([top, bottom], np.divide, draws, seed)


def exponential(exponents: float | Floats) -> Floats:
    """e to each exponent, at most LARGEST: a text of one long word has thousands of nats a word."""
    return np.minimum(np.exp(np.minimum(exponents, 700.0)), LARGEST)  # e to 700 is 1e304, to 710 too much for a float


def design_effect(values: Floats, clusters: Integers) -> float:
    """How much less the items say than as many independent ones would; at least 1.

    The cluster-robust variance of the mean divided by the variance under independence.
    """
    mean = float(values.mean())
    items, count = len(values), int(clusters.max()) + 1
    if not 0 < mean < 1 or count < 2:
        return 1.0
    independent = mean * (1 - mean) * items * items / (items - 1)
    residuals = cluster_sums(values - mean, clusters)
    return max(1.0, float(residuals @ residuals) * count / (count - 1) / independent)


def wilson(values: Floats, clusters: Integers) -> tuple[float, float, float]:
    """The mean of `values` (items, each in [0, 1]) and Wilson's 95 % interval at the effective number of items."""
    mean = float(values.mean())
    items = len(values) / design_effect(values, clusters)
    spread = Z_95**2 / items
    centre = (mean + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(mean * (1 - mean) / items + spread / (4 * items)) / (1 + spread)
    low, high = (0.0 if mean == 0 else centre - half), (1.0 if mean == 1 else centre + half)  # exact at the ends
    return mean, low, high


def rounded(value: float, digits: int = 5) -> float:
    """A figure as it is written to an artifact: `digits` significant digits are the same for any order of summation."""
    if value == 0 or not math.isfinite(value):
        return 0.0 if value == 0 else value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def finite(value: float) -> float | None:
    """A figure for JSON, which knows neither infinity nor NaN: `rounded`, or None where it is not a finite number."""
    return rounded(value) if math.isfinite(value) else None


def as_clusters(labels: list[Any]) -> Integers:
    """Labels (document identities) as numbers from 0 in order of first appearance."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)
