"""A curriculum by a score: documents sorted by it, and cut into phases of equal tokens (Bengio et al. 2009).

A score is the length of a document in tokens, a signal of the filter, or a number in the document's metadata. Within a
phase documents are shuffled. Those without the score come last. Canaries have no say: each is met in one phase.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.documents import TRAIN
from storage.errors import DataError
from storage.listing import first_few
from storage.store.artifacts import Part
from storage.token_order import Pieces
from tasks.mix.config import LENGTH, METADATA, CurriculumConfig
from tasks.mix.corpus import Corpus
from tasks.mix.pool import cut

MOST_NAMED = 20

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one phase reads, and the least and the greatest score in it; None where no document has one."""

    pieces: Pieces
    scores: tuple[float, float] | None


def scores_of(config: CurriculumConfig, documents: Part, signals: Part, corpus: Corpus) -> Scores:
    """The score of each training document, NaN where it has none.

    DataError where no document has it, with the names of those that there are. Memory: 8 bytes a document.
    """
    if config.by == LENGTH:
        return corpus.sizes[: len(corpus.owners)].astype(np.float64)
    kind, _, name = config.by.partition(".")
    others: Counter[str] = Counter()
    found = _of_metadata(documents, name, others) if kind == METADATA else _of_signals(documents, signals, name, others)
    scores = np.concatenate([np.empty(0), *found])
    if np.isnan(scores).all():
        there = ", ".join(first_few([f"{kind}.{other}" for other, _ in others.most_common()], MOST_NAMED)) or "none"
        raise DataError(
            f"mix: no training document has the number {config.by} (collect.mix.curriculum.by). There: {there}"
        )
    return scores


def stretches(config: CurriculumConfig, drawn: Pieces, scores: Scores) -> list[Stretch]:
    """The pieces that a mix has drawn, sorted by the score of their documents and cut into phases of equal tokens."""
    own = scores[drawn[0]]
    order = np.argsort(own if config.first == "low" else -own, kind="stable")  # NaN sorts last either way
    left = drawn[:, order]
    borders = np.rint(np.linspace(0, int(drawn[2].sum()), config.phases + 1)).astype(np.int64)
    found = []
    for tokens in np.diff(borders).tolist():
        pieces, left = cut(left, tokens)
        known = scores[pieces[0]]
        known = known[~np.isnan(known)]
        found.append(Stretch(pieces, (float(known.min()), float(known.max())) if len(known) else None))
    return found


def without_score(config: CurriculumConfig, scores: Scores) -> list[str]:
    """How many documents have no score."""
    missing = int(np.isnan(scores).sum())
    if not missing:
        return []
    return [
        f"mix: {missing:,} of {len(scores):,} training documents have no number {config.by}: they come last, after all "
        "that have one (collect.mix.curriculum)"
    ]


def _of_metadata(documents: Part, name: str, others: Counter[str]) -> Iterator[Scores]:
    for file in documents.files:
        table = pq.read_table(file.path, columns=["split", "metadata"], use_threads=False)
        chosen = table["metadata"].filter(pc.equal(table["split"], TRAIN))
        yield np.array([_number_in(text, name, others) for text in chosen.to_pylist()], np.float64)


def _number_in(text: str, name: str, others: Counter[str]) -> float:
    """The number of that name in metadata, NaN for none; counts the names of all numbers."""
    metadata = json.loads(text)
    numbers = {key: float(value) for key, value in metadata.items() if type(value) in (int, float)}
    others.update(numbers)
    value = numbers.get(name, np.nan)
    return value if np.isfinite(value) else np.nan


def _of_signals(documents: Part, signals: Part, name: str, others: Counter[str]) -> Iterator[Scores]:
    measured = {file.name: file for file in signals.files}
    for file in documents.files:
        schema = pq.read_schema(measured[file.name].path)
        numeric = [one.name for one in schema if pa.types.is_integer(one.type) or pa.types.is_floating(one.type)]
        others.update(numeric)
        table = pq.read_table(file.path, columns=["id", "split"], use_threads=False)
        ids = table["id"].filter(pc.equal(table["split"], TRAIN))
        if name not in numeric:
            yield np.full(len(ids), np.nan)
            continue
        rows = pq.read_table(measured[file.name].path, columns=["id", name], use_threads=False)
        places = pc.index_in(ids, rows["id"].combine_chunks())
        values = rows[name].take(places).cast(pa.float64()).fill_null(np.nan).to_numpy()
        yield np.where(np.isfinite(values), values, np.nan)
