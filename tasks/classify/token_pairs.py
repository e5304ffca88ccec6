"""Tokens and pairs of neighbouring tokens, each counted once a text: a linear model of classes beside the transformer.

Of few texts, whether a pair such as "not good" is in one says more of its class than what a small transformer learns of
the same tokens. Rule: logistic regression of each class against the rest, on what is in a text, each feature times the
log ratio of its share of the features of the class and of the others (NBSVM; Wang & Manning 2012, "Baselines and
Bigrams"). How closely it follows the texts is chosen by the log loss on a fifth of them. Its log-probabilities and
those of the transformer count half each.

Cost: a fit takes 2 to 8 seconds for 1,600 texts of 1,000 tokens, and there are five, of more than two classes for each;
memory for the tokens and pairs of all training texts, and for one weight a class of each that is different.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import DataError

FILE = "token_pairs.safetensors"  # beside the weights of the transformer
SMOOTHING = 1.0  # texts, added to those of each class that have a feature
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of texts against weights of zero (scikit-learn's C), rows of mean square 1
PARTS = 5  # of the training texts, one of which chooses among them
MOST_WEIGHTS = 1 << 28  # a gibibyte

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TokenPairs:
    """The weights (features, classes) of features by their keys, which rise, and a bias a class."""

    keys: Numbers
    weights: Floats
    biases: Floats

    @classmethod
    def fit(cls, texts: Sequence[Sequence[int]], numbers: Numbers, classes: int) -> "TokenPairs":
        """Learn from texts, by their ids, and the numbers of their classes; DataError where the weights are too many.

        The same on one machine whatever the threads: the solver's sums are of one.
        """
        from threadpoolctl import threadpool_limits

        found = [keys_of(ids) for ids in texts]
        keys, places = np.unique(np.concatenate(found), return_inverse=True)
        if len(keys) * classes > MOST_WEIGHTS:
            raise DataError(
                f"classify.token_pairs: {len(keys):,} tokens and pairs of {classes:,} classes are more weights than "
                f"{MOST_WEIGHTS:,}: leave it out, the transformer alone tells the classes apart"
            )
        rows = _rows(places, [len(one) for one in found], len(keys))
        with threadpool_limits(1):
            strength = _best_strength(rows, numbers, classes)
            return cls(keys, *_weights(rows, numbers, classes, strength))

    def scores(self, texts: Sequence[Sequence[int]]) -> Doubles:
        """Log-probabilities (texts, classes); what no training text had counts for nothing."""
        logits = np.empty((len(texts), len(self.biases)))
        for row, ids in enumerate(texts):
            keys = keys_of(ids)
            places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            known = places[self.keys[places] == keys]
            logits[row] = self.weights[known].sum(axis=0, dtype=np.float64) / np.sqrt(len(keys)) + self.biases
        return _log_shares(logits)

    def save(self, folder: Path) -> None:
        """Write FILE."""
        from safetensors.numpy import save_file

        save_file({"keys": self.keys, "weights": self.weights, "biases": self.biases}, folder / FILE)

    @classmethod
    def load(cls, folder: Path, classes: int) -> "TokenPairs | None":
        """What `save` has written; None where nothing is. DataError for a file that fits no such model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / FILE).is_file():
            return None
        try:
            tensors = load_file(folder / FILE)
            made = cls(**tensors)
        except (SafetensorError, TypeError, OSError) as error:
            raise DataError(f"{folder / FILE}: not the weights of tokens and pairs ({error})") from error
        wanted = {"keys": (len(made.keys),), "weights": (len(made.keys), classes), "biases": (classes,)}
        kinds = {"keys": np.int64, "weights": np.float32, "biases": np.float32}
        for name, shape in wanted.items():
            if tensors[name].shape != shape or tensors[name].dtype != kinds[name] or not len(made.keys):
                raise DataError(f"{folder / FILE}: {name} is not what tokens and pairs of {classes:,} classes have")
        return made


def keys_of(ids: Sequence[int]) -> Numbers:
    """What is in a text, once each, in rising order: its tokens (ids below 2^31 - 1), and behind them its pairs of
    neighbours, the first one's id + 1 in the upper 32 bits."""
    tokens = np.asarray(ids, np.int64)
    return np.unique(np.concatenate([tokens, (tokens[:-1] + 1 << 32) | tokens[1:]]))


def together(scores: Doubles, others: Doubles) -> Doubles:
    """Log-probabilities (texts, classes) of two models that count half each."""
    return _normalised((scores + others) / 2)


def _log_shares(logits: Doubles) -> Doubles:
    """Log-probabilities of classes from the logit of each against the rest."""
    return _normalised(-np.logaddexp(0, -logits))


def _normalised(scores: Doubles) -> Doubles:
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


def _rows(places: Numbers, sizes: Sequence[int], features: int) -> Any:
    """A sparse matrix (texts, features) whose rows have length 1."""
    from scipy.sparse import csr_matrix

    values = np.repeat(1 / np.sqrt(np.asarray(sizes, np.float64)), sizes)
    return csr_matrix((values, places, np.concatenate([[0], np.cumsum(sizes)])), (len(sizes), features))


def _best_strength(rows: Any, numbers: Numbers, classes: int) -> float:
    """That of the least log loss on every fifth text, learned from the others."""
    asked = np.arange(len(numbers)) % PARTS == PARTS - 1
    if not asked.any():
        return STRENGTHS[len(STRENGTHS) // 2]

    def loss(strength: float) -> float:
        weights, biases = _weights(rows[~asked], numbers[~asked], classes, strength)
        scores = _log_shares(rows[asked] @ weights + biases)
        return -float(scores[np.arange(len(scores)), numbers[asked]].mean())

    return min(STRENGTHS, key=loss)


def _weights(rows: Any, numbers: Numbers, classes: int, strength: float) -> tuple[Floats, Floats]:
    """Weights (features, classes) and biases (classes,)."""
    weights, biases = np.empty((rows.shape[1], classes), np.float32), np.empty(classes, np.float32)
    for number in range(1 if classes == 2 else 0, classes):
        weights[:, number], biases[number] = _against_the_rest(rows, numbers == number, strength)
    if classes == 2:  # each is the other's rest
        weights[:, 0], biases[0] = -weights[:, 1], -biases[1]
    return weights, biases


def _against_the_rest(rows: Any, inside: npt.NDArray[np.bool_], strength: float) -> tuple[Doubles, float]:
    """The weights (features,) and the bias of the logit that a text is of a class."""
    from sklearn.linear_model import LogisticRegression

    there = (rows > 0).astype(np.float64)
    with_it = [SMOOTHING + np.asarray(there[which].sum(axis=0)).ravel() for which in (inside, ~inside)]
    if inside.all() or not inside.any():  # of few texts, those that choose the strength may lack a class
        return np.zeros(rows.shape[1]), np.log((inside.sum() + SMOOTHING) / ((~inside).sum() + SMOOTHING))
    ratios = np.log(with_it[0] / with_it[0].sum()) - np.log(with_it[1] / with_it[1].sum())
    scaled = rows.multiply(ratios).tocsr()
    scale = np.sqrt(scaled.multiply(scaled).sum() / len(inside)) or 1.0
    model = LogisticRegression(C=strength, max_iter=1000).fit(scaled / scale, inside)
    return model.coef_[0] * ratios / scale, float(model.intercept_[0])
