"""Calibration: does what a model is 70 % sure of come true in 70 % of the cases?

Expected calibration error (Naeini et al. 2015; Guo et al. 2017): predictions are put into bins by their confidence,
the probability of the likeliest answer; the error is the mean of |confidence - accuracy| over bins, by number. Bins
hold equal numbers of predictions: bins of equal width are nearly empty where a model is seldom sure.

The error is never 0: by chance alone each bin misses a little. What a perfectly calibrated model of the same
confidences would show on average is beside it as a baseline. The interval is drawn over documents with the bins,
and the sign of each bin's gap, held as they are in the whole sample; the error is then a ratio of sums, like any
other figure here.

`calibration.json`: `{"bins": [{"model", "low", "high", "confidence", "accuracy", "tokens"}, ...],
"expected_calibration_error": {model: value}}`, of next tokens; low and high are a bin's least and greatest confidence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.documents import Sampled
from tasks.evaluate.score import MODELS
from tasks.evaluate.statistics.scores import Item, Measure
from tasks.statistics.intervals import Floats, Integers, cluster_sums, finite

TOKEN_BINS = 15
CHOICE_BINS = 10  # a few hundred items

Predictions = Callable[[Sequence[Sequence[int]]], Mapping[str, Sequence[tuple[Any, Any]]]]


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of like confidence: their places, mean confidence and share that is right."""

    places: Integers
    low: float
    high: float
    confidence: float
    accuracy: float


def reliability(confidence: Floats, right: Floats, bins: int) -> list[Bin]:
    """Bins of equal numbers of predictions, by rising confidence; `right` is 1 where the prediction was."""
    order = np.argsort(confidence, kind="stable")
    return [
        Bin(
            places,
            float(confidence[places[0]]),
            float(confidence[places[-1]]),
            float(confidence[places].mean()),
            float(right[places].mean()),
        )
        for places in np.array_split(order, min(bins, len(order)))
    ]


def signed_gaps(confidence: Floats, right: Floats, bins: Sequence[Bin]) -> Floats:
    """The gap of each prediction, with the sign of its bin: their mean is the expected calibration error."""
    gaps = np.empty(len(confidence))
    for one in bins:
        gaps[one.places] = math.copysign(1, one.confidence - one.accuracy) * (confidence - right)[one.places]
    return gaps


def error_by_chance(confidence: Floats, bins: Sequence[Bin]) -> float:
    """The error that perfectly calibrated predictions show on average: that of normal deviations in each bin."""
    variances = [float((confidence[one.places] * (1 - confidence[one.places])).sum()) for one in bins]
    return sum(math.sqrt(2 / math.pi * variance) for variance in variances) / len(confidence)


def first_tokens(ids: Sequence[list[int]], most: int) -> list[list[int]]:
    """The first documents, up to `most` tokens together; the last of them may be cut."""
    chosen, left = [], most
    for document in ids:
        if left < 2:
            break
        chosen.append(document[:left])
        left -= len(chosen[-1])
    return chosen


def token_calibration(
    predict: Predictions, documents: Sequence[Sampled], ids: Sequence[list[int]], most_tokens: int
) -> tuple[list[Measure], dict[str, Any]]:
    """Calibration of next-token predictions on the first of `documents`, and the contents of `calibration.json`.

    `predict(ids)` gives for each model (confidence, whether right) of each document, as `next_token_confidences` does.
    """
    some = first_tokens(ids, most_tokens)
    found = predict(some)
    items = [Item(document.id, document.source) for document in documents[: len(some)]]
    tokens = np.array([len(document) - 1 for document in some], np.float64)
    clusters = np.repeat(np.arange(len(some)), tokens.astype(np.int64))
    errors: dict[str, Floats] = {}
    excess: dict[str, Floats] = {}
    floors: dict[str, float] = {}
    table: list[dict[str, Any]] = []
    for model, predictions in found.items():
        confidence = np.concatenate([sure for sure, _ in predictions])
        right = np.concatenate([hit for _, hit in predictions]).astype(np.float64)
        bins = reliability(confidence, right, TOKEN_BINS)
        errors[model] = cluster_sums(signed_gaps(confidence, right, bins), clusters)
        excess[model] = cluster_sums(confidence - right, clusters)
        floors[f"{model}_if_calibrated"] = error_by_chance(confidence, bins)
        table += [
            {
                "model": model,
                **{name: finite(getattr(one, name)) for name in ("low", "high", "confidence", "accuracy")},
                "tokens": len(one.places),
            }
            for one in bins
        ]
    rule = "likeliest next token of held-out text, windows of the whole context one after another"
    measures = [
        Measure("calibration", "expected_calibration_error", f"{rule}; {TOKEN_BINS} bins of equal numbers", items,
                errors, tokens, higher_is_better=None, constants=floors),
        Measure("calibration", "overconfidence", f"{rule}; mean confidence less share right", items,
                excess, tokens, higher_is_better=None),
    ]  # fmt: skip
    totals = {model: finite(float(errors[model].sum() / tokens.sum())) for model in MODELS}
    known = {model: total for model, total in totals.items() if total is not None}
    return measures, {"bins": table, "expected_calibration_error": known}


def choice_calibration(
    name: str, items: Sequence[Item], likelihoods: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[int]
) -> Measure:
    """Calibration of a multiple-choice benchmark: confidences are the softmax over the choices' log-likelihoods.

    `likelihoods[who]`: nats of each choice of each item; `labels`: which choice is right.
    """
    errors, floors = {}, {}
    for who, rows in likelihoods.items():
        confidence = np.array([1 / np.exp(np.array(nats) - max(nats)).sum() for nats in rows])
        right = np.array([float(np.argmax(nats) == label) for nats, label in zip(rows, labels, strict=True)])
        bins = reliability(confidence, right, CHOICE_BINS)
        errors[who] = signed_gaps(confidence, right, bins)
        if who in MODELS:
            floors[f"{who}_if_calibrated"] = error_by_chance(confidence, bins)
    rule = f"softmax over the summed log-probabilities of the choices; {CHOICE_BINS} bins of equal numbers"
    return Measure(name, "expected_calibration_error", rule, items, errors, np.ones(len(items)),
                   higher_is_better=None, constants=floors)  # fmt: skip
