"""A linear classifier of texts: how likely each category is, by logistic regression on what the text is made of.

A text is its tokens, the pairs of neighbours among them and the runs of 2 to 4 letters in them (so that a word that is
written otherwise is not a new one), each counted in one of 2**18 places by a hash of it: no word of a training text can
be read from the weights. Counts are damped (1 + ln n), weighed by how rare a feature is (idf), and the row is of length
1; each category has weights of its own (Joachims 1998 for the representation; liblinear's trust region method,
https://www.csie.ntu.edu.tw/~cjlin/liblinear, for the fit).

Weights are safetensors. They are equal for equal rows on CPUs of one type; sums are made by one thread.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from tasks.moderate.folding import folded, tokens

FILE = "classifier.safetensors"
PLACES = 1 << 18
SHORTEST, LONGEST = 2, 4  # letters of a run
MOST_PASSES = 200  # of the fit

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Classifier:
    """`idf` (places,), `weights` (categories, places), `bias` (categories,)."""

    categories: tuple[str, ...]
    idf: Floats
    weights: Floats
    bias: Floats

    def scores(self, text: str) -> dict[str, float]:
        """The probability of each category."""
        places, values = row_of(text)
        row = values * self.idf[places]
        row /= max(float(np.sqrt((row * row).sum())), 1e-12)
        sums = (self.weights[:, places] * row).sum(axis=1) + self.bias
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


def features(text: str) -> Iterator[str]:
    """What a text is made of; the first character says of which kind."""
    read = tokens(folded(text))
    before = ""
    for token in read:
        yield f"w{token}"
        if before:
            yield f"p{before} {token}"
        before = token
        edged = f" {token} "
        for length in range(SHORTEST, LONGEST + 1):
            for start in range(len(edged) - length + 1):
                yield edged[start : start + length]


def row_of(text: str) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places of a text's features (ascending) and their damped counts."""
    counts = Counter(zlib.crc32(feature.encode("utf-8", "surrogatepass")) % PLACES for feature in features(text))
    places = sorted(counts)
    damped = [1.0 + math.log(counts[place]) for place in places]
    return np.array(places, np.int64), np.array(damped, np.float32)


def train(texts: Sequence[str], classes: Mapping[str, npt.NDArray[np.int8]], strength: float) -> Classifier:
    """Learn from texts. `classes` has for each category 1 where a text is of it, 0 where not, -1 where nobody knows.

    `strength` is the inverse of the regularization (liblinear's C).
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    rows = [row_of(text) for text in texts]
    matrix = _matrix(rows)
    seen = np.bincount(matrix.indices, minlength=PLACES)
    idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
    matrix.data *= idf[matrix.indices]
    lengths = np.sqrt(np.add.reduceat(matrix.data**2, matrix.indptr[:-1])) if len(matrix.data) else np.ones(len(texts))
    matrix.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(matrix.indptr))
    weights, bias = np.zeros((len(classes), PLACES), np.float32), np.zeros(len(classes), np.float32)
    with threadpool_limits(1):
        for number, known in enumerate(classes.values()):
            chosen = np.flatnonzero(known >= 0)
            fitted = LogisticRegression(C=strength, solver="liblinear", max_iter=MOST_PASSES, random_state=0)
            fitted.fit(matrix[chosen], known[chosen])
            weights[number], bias[number] = fitted.coef_[0], fitted.intercept_[0]
    return Classifier(tuple(classes), idf, weights, bias)


def _matrix(rows: Sequence[tuple[npt.NDArray[np.int64], Floats]]) -> Any:
    """All rows as one sparse matrix (texts, places). A text without a feature has a 0 at the first place."""
    from scipy.sparse import csr_matrix

    nothing = (np.zeros(1, np.int64), np.zeros(1, np.float32))
    rows = [row if len(row[0]) else nothing for row in rows]
    starts = np.cumsum([0, *(len(places) for places, _ in rows)])
    places = np.concatenate([one for one, _ in rows])
    values = np.concatenate([one for _, one in rows]).astype(np.float64)
    return csr_matrix((values, places, starts), shape=(len(rows), PLACES))


def _probability(total: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, total))))
