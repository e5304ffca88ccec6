"""py3langid's naive Bayes over n-grams of bytes, for all bytes of many texts at once: the same probabilities, faster.

Its automaton (Aho and Corasick 1975) is walked byte by byte there, in Python. But a state is the longest ending of what
was read that begins an n-gram of the model, so it depends on the last few bytes alone, as many as the longest n-gram
has: 6. So each step is taken for all places of the texts together, from the root, LONGEST times.

Features that occur as often in a text are added first, and then weighed by the logarithm of the count. The model's
numbers are of half precision, multiples of 2**-9 below 16: sums of 2,048 are exact in 32 bits. All else is in 64.

Source: py3langid 0.4, `LanguageIdentifier.rank` with `norm_probs`; a test holds both against each other.
Cost: .12 ms a text of 2,000 bytes, in batches of some 32; alone .3.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST = 6  # bytes of an n-gram of the model

_BITS = 17  # of the number of a feature, and of how often it occurs
_LOW = (1 << _BITS) - 1
_END = b"\xff"  # between texts: in no UTF-8, so that the root follows

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


class Identifier:
    """Probabilities of languages. Takes half a second and 150 MB to make."""

    def __init__(self) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        model: Any = LanguageIdentifier.from_model_file(MODEL_FILE)
        rows = np.asarray(model.tk_row, np.int32) << 8
        moves = np.asarray(model.tk_nextmove, np.int32)  # (rows, 256), flat: the next state
        self._root = int(rows[0])
        self._places = rows[moves]  # where the moves of the next state begin
        self._features = np.asarray(model.tk_output, np.int32)[moves]  # of the next state; -1 for none
        self._table = np.asarray(model.nb_ptc, np.float32)  # (features, columns)
        self._prior = np.asarray(model.nb_pc, np.float64)
        self.labels: tuple[str, ...] = tuple(model.labels)
        positions = {label: number for number, label in enumerate(self.labels)}
        self._label_of = np.array([positions[label] for label in model.nb_classes])  # of a column: two may share one

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(texts, labels): the probabilities of each text, which has less than 2**17 bytes; all alike where it has no
        n-gram of the model."""
        encoded = [_encoded(text) for text in texts]
        lengths = np.array([len(one) for one in encoded])
        scores = self._scores(encoded) / np.sqrt(np.maximum(lengths, 1))[:, None]  # keeps lengths comparable, as there
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.stack([np.bincount(self._label_of, row, len(self.labels)) for row in shares])

    def _scores(self, encoded: Sequence[bytes]) -> Floats:
        """(texts, columns): logarithms of the likelihoods; nothing for a text without features."""
        scores = np.zeros((len(encoded), len(self._prior)))
        found = self._features_in(encoded)
        if not len(found):
            return scores
        found.sort()
        ends = np.flatnonzero(np.append(found[1:] != found[:-1], True))
        counts = ends.copy()
        counts[0] += 1
        counts[1:] -= ends[:-1]
        owners, features = found[ends].astype(np.int64) >> _BITS, found[ends] & _LOW
        keys = (((owners << _BITS) + counts) << _BITS) + features
        keys.sort()  # faster than to find the order of groups, and the same
        groups = keys >> _BITS  # a text's features that occur as often
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        sums = self._sums((keys & _LOW).astype(np.int32), starts)
        sums *= np.log1p((groups[starts] & _LOW).astype(np.float32)).astype(np.float64)[:, None]
        of_texts = groups[starts] >> _BITS
        firsts = np.flatnonzero(np.diff(of_texts, prepend=-1))
        scores[of_texts[firsts]] = np.add.reduceat(sums, firsts, axis=0) + self._prior
        return scores

    def _features_in(self, encoded: Sequence[bytes]) -> Integers:
        """The number of a text and, in the lower bits, a feature of it, for each byte behind which there is one."""
        read = np.frombuffer(_END.join([*encoded, b""]), np.uint8).astype(np.int32)
        moves = np.full(len(read), self._root, np.int32)
        for back in range(min(LONGEST, len(read)) - 1, 0, -1):
            ahead = moves[back:]
            ahead += read[: len(read) - back]
            self._places.take(ahead, out=ahead, mode="clip")  # none is outside; to check it would copy
        moves += read
        found = self._features.take(moves)
        owners = np.repeat(np.arange(len(encoded), dtype=np.int32), [len(one) + 1 for one in encoded])
        there = np.flatnonzero(found >= 0)
        return (owners[there] << _BITS) + found[there]

    def _sums(self, features: Integers, starts: npt.NDArray[np.int64]) -> Floats:
        """(groups, columns): the model's numbers of features, added by groups that start there."""
        from scipy.sparse import csr_array

        ends = np.append(starts, len(features)).astype(np.int32)
        ones = np.ones(len(features), np.float32)
        chosen = csr_array((ones, features, ends), shape=(len(starts), len(self._table)))
        return (chosen @ self._table).astype(np.float64)


def _encoded(text: str) -> bytes:
    """What is read of a text: capitals throughout are not."""
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode(errors="surrogatepass")
