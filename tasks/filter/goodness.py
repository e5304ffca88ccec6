"""How likely it is that a text is one of those that the user calls good, by what good and bad ones have taught.

The classifier is CCNet's and GPT-3's kind: a linear one over hashed words and pairs of neighbours (fastText: Joulin et
al. 2016, arXiv 1607.01759), here logistic regression (tasks/linear.py). Words are without case, and by the rule of
their script. Texts are read in pieces of 4,000 characters, so that a book and a page are rows of like length; the
probability of a document is the mean of its pieces', by their lengths.

Learned from is a sample of the pieces of each kind, those with the smallest hashes, so that memory is bounded and the
order of files means nothing. A tenth of the texts, by a hash of each, is held out with all its pieces and says how well
the two kinds are told apart.

Cost: .2 ms a document of 2.8 kB; learning takes a second for 1,000 rows and 15 kB of memory for each.
"""

import hashlib
import heapq
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from storage.documents import HELDOUT, split_of
from storage.errors import DataError
from tasks.engine.context import Summary
from tasks.filter.given_texts import texts_of_files
from tasks.linear import PLACES, Classifier, Row, fit
from tasks.words import words

PIECE_CHARACTERS = 4000
HELDOUT_SHARE = 0.1
STRENGTH = 10.0  # liblinear's C, as moderation has it
KINDS = ("bad", "good")  # in the order of their classes
GOOD = ("good",)
_PAIR = np.uint64(0x9E3779B97F4A7C15)  # odd: 2**64 by the golden ratio


def goodness(classifier: Classifier, text: str) -> float | None:
    """The probability, six decimals; None for a text without a word."""
    scores, sizes = [], []
    for piece in pieces_of(text):
        row = row_of(piece)
        if len(row.places):
            scores.append(classifier.scores(row)["good"])
            sizes.append(len(piece))
    return round(float(np.average(scores, weights=sizes)), 6) if scores else None


def pieces_of(text: str) -> Iterator[str]:
    """A text in pieces."""
    return (text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))


def row_of(text: str) -> Row:
    """The words of a text and the pairs of neighbours, hashed and counted."""
    found = [zlib.crc32(word.encode(errors="surrogatepass")) for word in words(text.lower())]
    single = np.array(found, np.uint64)
    pairs = (single[:-1] * _PAIR + single[1:]) * _PAIR >> np.uint64(64 - 32)
    places, counts = np.unique(np.concatenate((single, pairs)) % np.uint64(PLACES), return_counts=True)
    return Row(places.astype(np.int64), (1 + np.log(counts)).astype(np.float32))


def learn_goodness(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write the classifier (linear.FILE). `config` has text_field and most_rows; inputs are `good/...` and `bad/...`.

    Summary: rows learned from and held out; accuracy and area under the curve (AUC) of those held out, where both kinds
    have some.
    """
    rows: list[Row] = []
    known: list[int] = []
    heldout: list[bool] = []
    for number, kind in enumerate(KINDS):
        option = f"filter.quality.{kind}"
        files = {name.removeprefix(f"{kind}/"): path for name, path in inputs.items() if name.startswith(f"{kind}/")}
        sample = list(_sample(texts_of_files(files, config["text_field"], option), config["most_rows"]))
        if not sample:
            raise DataError(f"{option}: holds no text, so there is nothing to tell apart: name files with texts")
        rows += [row for row, _ in sample]
        known += [number] * len(sample)
        heldout += [out for _, out in sample]
    truth, asked = np.array(known, np.int8), np.array(heldout)
    if any(set(truth[chosen]) != {0, 1} for chosen in (asked, ~asked)):  # too few texts to measure by
        asked[:] = False
    classifier = fit([rows[place] for place in np.flatnonzero(~asked)], {"good": truth[~asked]}, STRENGTH)
    classifier.write(out)
    summary = {"quality_rows": int((~asked).sum()), "quality_heldout_rows": int(asked.sum())}
    if not asked.any():
        return summary
    scores = [classifier.scores(rows[place])["good"] for place in np.flatnonzero(asked)]
    return summary | _figures(truth[asked] == 1, np.array(scores))


def _sample(texts: Iterable[str], most: int) -> Iterator[tuple[Row, bool]]:
    """Of all pieces those with the smallest hashes, in order of these, each with whether its text is held out."""
    kept: dict[int, tuple[Row, bool]] = {}
    largest: list[int] = []  # hashes of those kept, negative: the first is the one that goes next
    for text in texts:
        out = split_of(hashlib.sha256(text.encode()).hexdigest()[:16], HELDOUT_SHARE) == HELDOUT
        for piece in pieces_of(text):
            number = int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=8).digest())
            if number in kept or (len(kept) == most and number > -largest[0]):
                continue
            row = row_of(piece)
            if len(row.places):
                kept[number] = row, out
                heapq.heappush(largest, -number)
            if len(kept) > most:
                del kept[-heapq.heappop(largest)]
    return (kept[number] for number in sorted(kept))


def _figures(good: Any, scores: Any) -> Summary:
    """Accuracy at one half, and the chance that a good row scores higher than a bad one (ties count half)."""
    above, below = scores[good], np.sort(scores[~good])
    wins = (np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")) / 2
    return {
        "quality_accuracy": round(float(((scores >= 0.5) == good).mean()), 6),
        "quality_auc": round(float(wins.mean() / len(below)), 6),
    }
