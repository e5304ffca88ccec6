"""The training curves of both models, from their `curve` parts: one row for each step, thinned to a thousand."""

import json
from typing import Any

from flows.report.run_data import Fact, RunData

MOST_POINTS = 150  # of a drawn line
FINAL = {"pretrain": "bits_per_byte", "finetune": "answer_bits_per_byte"}  # of the summary: held-out data, at the end


class Curve(Fact):
    """One training. Points are (step, value); bits per byte, except the rate and the norm of the gradient."""

    stage: str
    training: tuple[tuple[float, float], ...]
    validation: tuple[tuple[float, float], ...]  # on held-out data; the last one at the end
    rate: tuple[tuple[float, float], ...]
    gradient: tuple[tuple[float, float], ...]


def curve_of(data: RunData, stage: str) -> Curve | None:
    """The curve of `pretrain` or `finetune`; None where there is none."""
    part = data.part(stage, "curve")
    if part is None:
        return None
    with (part / "curve.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if not rows:
        return None
    validation = dict(_points(rows, "validation_bits_per_byte"))
    final = data.summary(stage).get(FINAL[stage])
    if final is not None:
        validation[float(rows[-1]["step"])] = float(final)
    return Curve(
        stage=stage,
        training=_thinned(_points(rows, "bits_per_byte")),
        validation=tuple(sorted(validation.items())),
        rate=_thinned(_points(rows, "learning_rate")),
        gradient=_thinned(_points(rows, "gradient_norm")),
    )


def _points(rows: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in rows if isinstance(row.get(name), int | float)]


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Means of equal runs of points: also what makes the line of a noisy loss readable."""
    every = -(-len(points) // MOST_POINTS)
    runs = [points[first : first + every] for first in range(0, len(points), every)] if points else []
    return tuple((run[-1][0], sum(y for _, y in run) / len(run)) for run in runs)
