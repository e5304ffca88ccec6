"""Two evaluations read side by side: the items that both hold, by their keys, and what each model made of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.evaluate.score import Score, read_scores
from tasks.statistics.compare import Answers, Comparison, compare, outcome
from tasks.statistics.outcome import Outcome

Figure = tuple[str, str]  # name and metric

_COLUMNS = ["name", "metric", "key", "document", "amount", "weight"]


@dataclass(frozen=True, slots=True)
class PairedScore:
    """A figure of two evaluations; `comparison` is None where they have no item in common."""

    name: str
    metric: str
    comparison: Comparison | None
    only_old: int
    only_new: int

    @property
    def outcome(self) -> Outcome:
        """What is to be said of the new model in this figure."""
        return outcome(self.comparison) if self.comparison else Outcome.NOT_MEASURED


def compare_evaluations(
    old: Artifact, new: Artifact, old_model: str, new_model: str, confidence: float = 0.95
) -> list[PairedScore]:
    """Every figure of either of two artifacts of the stage evaluate, on the items that they have in common."""
    items = _read(old, old_model, _COLUMNS), _read(new, new_model, _COLUMNS)
    totals = [Counter(_figures(table)) for table in items]
    paired = dict(_paired(*items))
    rows = []
    for figure, score in _scores(old, new).items():
        counts = [total[figure] for total in totals]
        comparison = None
        if figure in paired:
            documents, before, after = paired[figure]
            comparison = compare(
                before,
                after,
                documents,
                kind=score.kind,
                higher_is_better=score.higher_is_better,
                confidence=confidence,
            )
        common = comparison.items if comparison else 0
        if any(counts):
            rows.append(PairedScore(*figure, comparison, counts[0] - common, counts[1] - common))
    return rows


def changed_items(
    old: Artifact, new: Artifact, old_model: str, new_model: str, figure: Figure, limit: int
) -> list[dict[str, Any]]:
    """The items in common that move a figure most, the largest change first: key, document, prompt, target, both
    values and the change, which is positive where the new model is better."""
    texts = ["prompt", "target", "source"]
    tables = _read(old, old_model, _COLUMNS, figure), _read(new, new_model, [*_COLUMNS, *texts], figure)
    score = _scores(old, new).get(figure)
    if score is None:
        known = ", ".join(sorted({name for name, _ in _scores(old, new)}))
        raise DataError(f"no figure {figure[0]} with the metric {figure[1]}. Figures: {known}")
    joined = _joined(*tables)
    before, after = _answers(joined, ""), _answers(joined, "_new")
    sign = -1 if score.higher_is_better is False else 1
    moved = np.abs(after.amounts - before.amounts)
    order = [number for number in np.argsort(-moved, kind="stable").tolist() if moved[number] > 0][:limit]
    return [
        {
            **{name: joined[name][number].as_py() for name in ("key", "document", *texts)},
            "old": float(before.values[number]),
            "new": float(after.values[number]),
            "gain": float(sign * (after.values[number] - before.values[number])),
        }
        for number in order
    ]


def figures_named(old: Artifact, new: Artifact, name: str) -> list[Figure]:
    """The figures of either evaluation that have this name, or are this `NAME/METRIC`."""
    known = list(_scores(old, new))
    found = [figure for figure in known if name in (figure[0], "/".join(figure))]
    if not found:
        raise DataError(f"no figure {name!r}. Figures: {', '.join(dict.fromkeys(name for name, _ in known))}")
    return found


def _scores(*evaluations: Artifact) -> dict[Figure, Score]:
    """A score of each figure of any of them: what is said of the figure, not of a model."""
    return {(score.name, score.metric): score for one in evaluations for score in read_scores(one)}


def _read(evaluation: Artifact, model: str, columns: list[str], figure: Figure | None = None) -> pa.Table:
    """The rows of one model, in the given columns."""
    path = evaluation["items"] / "items.parquet"
    schema = pq.read_schema(path)
    if "key" not in schema.names:
        raise DataError(f"evaluation {evaluation.digest[:8]}: its items have no keys; run its recipe again")
    wanted = pc.field("model") == model
    if figure is not None:
        wanted &= (pc.field("name") == figure[0]) & (pc.field("metric") == figure[1])
    return pq.read_table(path, columns=columns, filters=wanted, use_threads=False)


def _figures(table: pa.Table) -> Iterator[Figure]:
    yield from zip(table["name"].to_pylist(), table["metric"].to_pylist(), strict=True)


def _joined(old: pa.Table, new: pa.Table) -> pa.Table:
    """The items in common, in order of name, metric and key; columns of `new` end in `_new` where both have them."""
    keys = ["name", "metric", "key"]
    joined = old.drop(["document"]).join(new, keys, join_type="inner", right_suffix="_new", use_threads=False)
    return joined.sort_by([(key, "ascending") for key in keys])


def _paired(old: pa.Table, new: pa.Table) -> Iterator[tuple[Figure, tuple[list[str], Answers, Answers]]]:
    """For each figure the documents of the items in common, and what both models made of them."""
    joined = _joined(old, new)
    labels = list(_figures(joined))
    start = 0
    for end in range(1, len(labels) + 1):
        if end == len(labels) or labels[end] != labels[start]:
            part = joined.slice(start, end - start)
            yield labels[start], (part["document"].to_pylist(), _answers(part, ""), _answers(part, "_new"))
            start = end


def _answers(table: pa.Table, suffix: str) -> Answers:
    return Answers(table[f"amount{suffix}"].to_numpy(), table[f"weight{suffix}"].to_numpy())
