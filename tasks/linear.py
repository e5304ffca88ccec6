"""A linear classifier of hashed features: how likely each category is, by logistic regression.

A feature is a place, a hash of what it stands for, so no text can be read from the weights. Counts come damped
(1 + ln n), are weighed by how rare a feature is (idf), and a row is of length 1; each category has weights of its own
(Joachims 1998 for the representation; liblinear's trust region method, https://www.csie.ntu.edu.tw/~cjlin/liblinear,
for the fit).

Weights are safetensors. They are equal for equal rows on CPUs of one type; sums are made by one thread.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.errors import DataError

FILE = "classifier.safetensors"
PLACES = 1 << 18
MOST_PASSES = 200  # of the fit

Floats = npt.NDArray[np.float32]


class Row(NamedTuple):
    """A text as its features: their places (ascending, each once, below PLACES) and their damped counts."""

    places: npt.NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, slots=True)
class Classifier:
    """`idf` (places,), `weights` (categories, places), `bias` (categories,)."""

    categories: tuple[str, ...]
    idf: Floats
    weights: Floats
    bias: Floats

    def scores(self, given: Row) -> dict[str, float]:
        """The probability of each category."""
        row = given.values * self.idf[given.places]
        row /= max(float(np.sqrt((row * row).sum())), 1e-12)
        sums = (self.weights[:, given.places] * row).sum(axis=1) + self.bias
        return {name: _probability(float(one)) for name, one in zip(self.categories, sums, strict=True)}

    def only(self, categories: Sequence[str]) -> "Classifier | None":
        """The weights of some of the categories; None for none."""
        places = [self.categories.index(name) for name in categories]
        if not places:
            return None
        return Classifier(tuple(categories), self.idf, self.weights[places], self.bias[places])

    def write(self, folder: Path) -> None:
        """The weights, as FILE of a folder."""
        from safetensors.numpy import save_file

        save_file({"idf": self.idf, "weights": self.weights, "bias": self.bias}, folder / FILE)

    @classmethod
    def read(cls, path: Path, categories: Sequence[str]) -> "Classifier":
        """The file that `write` has written; DataError where it is damaged, or of other categories."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        shapes = {"idf": (PLACES,), "weights": (len(categories), PLACES), "bias": (len(categories),)}
        for name, shape in shapes.items():
            one = found.get(name)
            if one is None or one.shape != shape or one.dtype != np.float32 or not np.isfinite(one).all():
                raise DataError(f"{path}: {name} is not {'x'.join(map(str, shape))} finite numbers of 32 bits")
        return cls(tuple(categories), found["idf"], found["weights"], found["bias"])


def fit(rows: Sequence[Row], classes: Mapping[str, npt.NDArray[np.int8]], strength: float) -> Classifier:
    """Learn from rows. `classes` has for each category 1 where a row is of it, 0 where not, -1 where nobody knows.

    `strength` is the inverse of the regularization (liblinear's C).
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    matrix = _matrix(rows)
    seen = np.bincount(matrix.indices, minlength=PLACES)
    idf = (np.log((1 + len(rows)) / (1 + seen)) + 1).astype(np.float32)
    matrix.data *= idf[matrix.indices]
    lengths = np.sqrt(np.add.reduceat(matrix.data**2, matrix.indptr[:-1])) if len(matrix.data) else np.ones(len(rows))
    matrix.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(matrix.indptr))
    weights, bias = np.zeros((len(classes), PLACES), np.float32), np.zeros(len(classes), np.float32)
    with threadpool_limits(1):
        for number, known in enumerate(classes.values()):
            chosen = np.flatnonzero(known >= 0)
            fitted = LogisticRegression(C=strength, solver="liblinear", max_iter=MOST_PASSES, random_state=0)
            fitted.fit(matrix[chosen], known[chosen])
            weights[number], bias[number] = fitted.coef_[0], fitted.intercept_[0]
    return Classifier(tuple(classes), idf, weights, bias)


def _matrix(rows: Sequence[Row]) -> Any:
    """All rows as one sparse matrix (texts, places). A text without a feature has a 0 at the first place."""
    from scipy.sparse import csr_matrix

    nothing = Row(np.zeros(1, np.int64), np.zeros(1, np.float32))
    rows = [row if len(row.places) else nothing for row in rows]
    starts = np.cumsum([0, *(len(row.places) for row in rows)])
    places = np.concatenate([row.places for row in rows])
    values = np.concatenate([row.values for row in rows]).astype(np.float64)
    return csr_matrix((values, places, starts), shape=(len(rows), PLACES))


def _probability(total: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, total))))
