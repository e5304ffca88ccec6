"""How well texts are told apart: by class, how sure the model is, and beside linear models of their words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.statistics.compare import Answers, compare
from tasks.statistics.intervals import as_clusters, rounded, wilson

BINS = 10  # of the probability of the likeliest class, for calibration

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def figures_of(
    classes: Sequence[str], true: Numbers, probabilities: Floats, baselines: Mapping[str, Numbers], groups: list[str]
) -> dict[str, Any]:
    """All figures of held-out texts: `true` (texts,), `probabilities` (texts, classes), the classes that each baseline
    names, and the groups that texts come from, which the intervals are drawn over.

    The difference is that from the best baseline of these texts, so that none is beaten by choosing a weak one.
    """
    found = probabilities.argmax(axis=1)
    right = (found == true).astype(np.float64)
    accuracy, low, high = wilson(right, as_clusters(groups))
    ones = np.ones(len(true))
    best = best_baseline(true, baselines)
    base_right = (baselines[best] == true).astype(np.float64)
    beside = compare(Answers(base_right, ones), Answers(right, ones), groups, kind="proportion", higher_is_better=True)
    by_class = [_of_class(name, number, true, found) for number, name in enumerate(classes)]
    return {
        "texts": len(true),
        "accuracy": rounded(accuracy),
        "low": rounded(low),
        "high": rounded(high),
        "macro_f1": rounded(float(np.mean([one["f1"] for one in by_class]))),
        "calibration_error": rounded(calibration_error(right, probabilities.max(axis=1))),
        "most_frequent": rounded(float(np.bincount(true).max() / len(true))),
        "baseline": best,
        "baseline_accuracy": rounded(beside.old),
        "baselines": [_of_baseline(name, classes, true, said) for name, said in baselines.items()],
        "gain": rounded(beside.difference),
        "gain_low": None if beside.low is None else rounded(beside.low),
        "gain_high": None if beside.high is None else rounded(beside.high),
        "classes": by_class,
        "confusion": [
            [int(((true == row) & (found == column)).sum()) for column in range(len(classes))]
            for row in range(len(classes))
        ],
    }


def calibration_error(right: Floats, sureness: Floats) -> float:
    """Mean difference of sureness and share right over bins of equal width, weighed by texts (Guo et al. 2017)."""
    places = np.minimum((sureness * BINS).astype(int), BINS - 1)
    gaps = [
        abs(float(right[places == one].mean() - sureness[places == one].mean())) * (places == one).mean()
        for one in range(BINS)
        if (places == one).any()
    ]
    return float(sum(gaps))


def _of_class(name: str, number: int, true: Numbers, found: Numbers) -> dict[str, Any]:
    """Precision, recall and F1; 0 where there is nothing to divide by."""
    hits = int(((true == number) & (found == number)).sum())
    named, there = int((found == number).sum()), int((true == number).sum())
    precision, recall = hits / max(1, named), hits / max(1, there)
    f1 = 2 * hits / max(1, named + there)
    return {
        "name": name,
        "texts": there,
        "precision": rounded(precision),
        "recall": rounded(recall),
        "f1": rounded(f1),
    }


def _of_baseline(name: str, classes: Sequence[str], true: Numbers, said: Numbers) -> dict[str, Any]:
    by_class = [_of_class(one, number, true, said)["f1"] for number, one in enumerate(classes)]
    return {
        "name": name,
        "accuracy": rounded(float((said == true).mean())),
        "macro_f1": rounded(float(np.mean(by_class))),
    }


def best_baseline(true: Numbers, baselines: Mapping[str, Numbers]) -> str:
    """The one that tells most texts rightly; the first of equals."""
    return max(baselines, key=lambda name: int((baselines[name] == true).sum()))


def linear_baselines(training: Sequence[str], classes: Numbers, heldout: Sequence[str]) -> dict[str, Numbers]:
    """The classes that logistic regression on TF-IDF gives to held-out texts: as scikit-learn has both by default, of
    words in lower case; and of words as they stand and pairs of them, their counts damped, with weaker weights of
    zero."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    kinds = {
        "words": (TfidfVectorizer(), LogisticRegression(max_iter=1000)),
        "word pairs": (
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\S+"),
            LogisticRegression(C=10.0, max_iter=1000),
        ),
    }
    return {name: _predicted(*kind, training, classes, heldout) for name, kind in kinds.items()}


def _predicted(words: Any, model: Any, training: Sequence[str], classes: Numbers, heldout: Sequence[str]) -> Numbers:
    try:
        model.fit(words.fit_transform(training), classes)
    except ValueError:  # no word at all
        return np.full(len(heldout), np.bincount(classes).argmax())
    found: Numbers = model.predict(words.transform(heldout)).astype(np.int64)
    return found
