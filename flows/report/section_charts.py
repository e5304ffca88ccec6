"""The charts of a page, from the figures of its sections."""

from typing import Any

from markupsafe import Markup

from flows.report import charts
from flows.report.run_data import RunData
from flows.report.scores import Calibration, Compared, Panel, read_fact
from flows.report.wording import baseline_name, score_figure
from tasks.engine.reported import Curve, Histogram
from tasks.evaluate.score import MODEL_NAMES, MODELS
from tasks.wording import figure


def histogram_chart(histogram: Histogram) -> Markup:
    """The documents by one signal, with the filter's limits as lines."""
    documents, median = figure(histogram.documents), figure(histogram.median)
    says = f"{histogram.label}: histogram of {documents} documents, median about {median}"
    for word, bound in (("at least", histogram.low), ("at most", histogram.high)):
        says += f"; {word} {figure(bound)} is kept" if bound is not None else ""
    return charts.histogram(
        histogram.edges,
        histogram.counts,
        says=says,
        logarithmic=histogram.logarithmic,
        low=histogram.low,
        high=histogram.high,
    )


def curve_charts(title: str, curve: Curve) -> dict[str, Any]:
    """The loss beside what is measured on held-out data; the rate and the norm below it."""
    lines = [
        charts.Line("training", curve.training, "train"),
        charts.Line("held out", curve.validation, "heldout", marked=True),
    ]
    ends = ", ".join(f"{line.label} {figure(line.points[-1][1])}" for line in lines if line.points)
    small = (("learning rate", curve.rate), ("gradient norm", curve.gradient))
    return {
        "title": title,
        "curve": curve,
        "loss": charts.line_chart(
            lines,
            says=f"Bits per byte over steps of {title.lower()}; at the end: {ends}",
            x_name="step",
            events=curve.events,
        ),
        "small": [
            (
                name,
                charts.line_chart(
                    [charts.Line("", points, "train")], says=f"{name} over steps", x_name="step", height=120, zero=True
                ),
            )
            for name, points in small
            if points
        ],
    }


def panel_charts(panel: Panel) -> dict[str, Any]:
    """A panel with a chart for each row, all on one scale that the models' intervals decide."""
    ends = [
        end
        for row in panel.rows
        for score in row.scores
        for end in (score.low, score.high, score.value)
        if end is not None
    ]
    near = [value for row in panel.rows for value in row.baselines.values()]
    if panel.share:
        scale = charts.Scale(0.0, 1.0)
    else:
        span = max(ends) - min(ends) or 1.0
        inside = [*ends, *(value for value in near if min(ends) - span <= value <= max(ends) + span)]
        margin = 0.08 * (max(inside) - min(inside) or 1.0)
        scale = charts.Scale(min(inside) - margin, max(inside) + margin)
    return {
        "panel": panel,
        "rows": [(row, _interval_chart(row, scale)) for row in panel.rows],
        "axis": charts.scale_axis(scale, per_cent=panel.share),
    }


def _interval_chart(row: Compared, scale: charts.Scale) -> Markup:
    dots, words = [], []
    for model in MODELS:
        score = row.of(model)
        if score is not None and score.value is not None:
            dots.append(charts.Dot(score.value, score.low, score.high, model))
            words.append(f"{MODEL_NAMES[model]} {score_figure(score)}")
    words += [f"{baseline_name(name)} {score_figure(row.scores[0], value)}" for name, value in row.baselines.items()]
    references = [reference.value for reference in row.references]
    return charts.interval_row(
        dots, list(row.baselines.items()), references, scale, says=f"{row.title}: {', '.join(words)}"
    )


def calibration_chart(data: RunData) -> dict[str, Any] | None:
    """Share of right predictions over confidence, of both models; None where none was measured."""
    facts = read_fact(data, Calibration, "calibration.json")
    if facts is None:
        return None
    lines = [
        charts.Line(
            MODEL_NAMES[model],
            [
                (bin.confidence, bin.accuracy)
                for bin in facts.bins
                if bin.model == model and bin.tokens and bin.confidence is not None and bin.accuracy is not None
            ],
            model,
            marked=True,
        )
        for model in MODELS
    ]
    lines = [line for line in lines if line.points]
    says = "Share of right predictions over confidence, for both models; the diagonal is perfect"
    return {"facts": facts, "chart": charts.reliability(lines, says=says)} if lines else None
