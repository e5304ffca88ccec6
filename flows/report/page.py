"""From a run to its page: figures gathered, charts drawn, everything escaped by the templates."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.report import charts
from flows.report.corpus import sources_of, vocabulary_of
from flows.report.drops import document_flow
from flows.report.scores import (
    MODELS,
    Calibration,
    Compared,
    Memorisation,
    Panel,
    Score,
    headlines,
    panels,
    read_fact,
    read_samples,
    read_scores,
)
from flows.report.signals import signal_histograms
from flows.report.training import Curve, curve_of
from flows.report.view import RunView
from flows.text import duration, figure
from storage.files import write_atomic
from storage.store import Store
from storage.tracking import redacted

FOLDER = Path(__file__).parent
TITLES = {"base": "base", "tuned": "fine-tuned"}


def report_path(store: Store, run: Mapping[str, Any]) -> Path:
    """Where the report of a run lies: beside its run file."""
    return store.home / "runs" / f"{run['run']}.html"


def write_report(store: Store, run: Mapping[str, Any]) -> Path:
    """Write the report of a run, in one step; returns its path. Equal run files and stores give equal bytes."""
    path = report_path(store, run)
    write_atomic(path, render(RunView(store, run)).encode())
    return path


def render(view: RunView) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "duration": duration, "size": size, "score": score_figure, "redacted": redacted}
    environment.globals |= {"stacked_bar": charts.stacked_bar, "sign": charts.sign, "models": TITLES}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        style=style, style_hash=_style_hash(style), **_sections(view)
    )


def _style_hash(style: str) -> str:
    """For the content security policy: no other style, and no script at all, may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _sections(view: RunView) -> dict[str, Any]:
    scores = read_scores(view)
    shown = panels(scores)
    return {
        "run": {"error": None, "seconds": None, "prefect": None, "mlflow": None, "model": None, **view.run},
        "name": view.summary("release").get("name") or view.recipe.get("release", {}).get("name", view.run["run"]),
        "facts": key_facts(view),
        "headlines": headlines(scores),
        "verdict": verdict_text,
        "plan": _plan(view),
        "flow": document_flow(view).stages,
        "pairs": pair_flow(view),
        "splits": _splits(view),
        "histograms": [(one, _histogram_chart(one)) for one in signal_histograms(view).histograms],
        "sources": sources_of(view).sources,
        "vocabulary": vocabulary_of(view),
        "tokens": view.summary("tokenize"),
        "curves": [_curve_charts(view, curve) for stage in ("pretrain", "finetune") if (curve := curve_of(view, stage))],
        "panels": [_panel_charts(panel) for panel in shown],
        "compared": [(row, _difference(row)) for panel in shown for row in panel.rows if row.difference is not None],
        "scores": scores,
        "calibration": _calibration(view),
        "memorisation": read_fact(view, Memorisation, "memorisation.json"),
        "samples": read_samples(view),
        "times": _times(view),
        "digests": _digests(view),
        "recipe": redacted(yaml.safe_dump(dict(view.recipe), sort_keys=False, allow_unicode=True, width=100)),
        "versions": _versions(view),
    }


def key_facts(view: RunView) -> dict[str, Any]:
    """What the first sentence tells; a figure that the run did not come to is None."""
    pretrain, tokens = view.summary("pretrain"), view.summary("tokenize")
    return {
        "parameters": view.summary("release").get("parameters") or pretrain.get("parameters"),
        "tokens": pretrain.get("tokens"),
        "training_bytes": tokens.get("train_bytes"),
        "training_documents": tokens.get("train_documents"),
        "pairs": view.summary("finetune").get("training_pairs"),
        "vocabulary": view.summary("tokenizer").get("vocabulary_size"),
        "built": sum(row["outcome"] == "built" for row in view.rows.values()),
        "reused": sum(row["outcome"] == "reused" for row in view.rows.values()),
        "description": view.recipe.get("release", {}).get("description", ""),
    }


def verdict_text(score: Score) -> str:
    """A score against its best baseline, in words."""
    best = score.best_baseline
    if best is None:
        return "no baseline"
    words = {"better": "better than", "unclear": "not clearly better than", "worse": "not better than"}
    name = best[0].replace("_", " ")
    return f"{words.get(score.verdict, 'beside')} {name} ({score_figure(score, best[1])})"


def score_figure(score: Score, value: float | None = None) -> str:
    """A score's value, or another of its kind: shares as per cent, others with four digits."""
    value = score.value if value is None else value
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if score.is_share else figure(value)


def _difference(row: Compared) -> str:
    """Fine-tuned less base, with its sign: shares in points, others as they are."""
    difference = row.difference or 0.0
    return f"{100 * difference:+.1f} points" if row.scores[0].is_share else f"{difference:+.4g}"


def size(count: float | None) -> str:
    """Bytes, tokens or parameters for people: `8.58 million`."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count is not None and count >= unit:
            return f"{count / unit:.3g} {name}"
    return figure(count)


def _plan(view: RunView) -> list[dict[str, Any]]:
    """What was planned and what became of it; a stage after the target of `--to` is not there."""
    planned = {row["stage"]: row for row in view.run.get("plan", [])}
    rows = []
    for stage in dict.fromkeys((*planned, *view.rows)):
        row, plan = view.rows.get(stage, {}), planned.get(stage, {})
        why = row.get("why") or plan.get("why", [])
        rows.append(
            {
                "stage": stage,
                "outcome": row.get("outcome", "not reached"),
                "why": [redacted(str(reason)) for reason in why],
                "seconds": row.get("seconds"),
                "estimate": plan.get("estimate_seconds"),
                "error": row.get("error"),
            }
        )
    return rows


def pair_flow(view: RunView) -> list[tuple[str, int]]:
    """What became of the pairs of prompt and answer, as (what, count)."""
    collected, tuned = view.summary("collect"), view.summary("finetune")
    rows = [
        ("read", collected.get("pairs_read")),
        ("repeated, dropped", collected.get("pairs_repeated")),
        ("in training and held out, dropped from training", collected.get("pairs_leaking")),
        ("with an answer that stands in held-out text, dropped", tuned.get("dropped_leaking")),
        ("too long for the context, dropped", tuned.get("dropped_too_long")),
        ("trained on", tuned.get("training_pairs")),
        ("held out", tuned.get("heldout_pairs")),
    ]
    return [(what, count) for what, count in rows if count] if collected.get("pairs_read") else []


def _splits(view: RunView) -> list[tuple[str, int, float]]:
    """(split, documents, share of what was kept) of the clean documents."""
    tokens = view.summary("tokenize")
    counts = [(name, int(tokens.get(f"{split}_documents", 0))) for split, name in (("train", "training"), ("heldout", "held out"))]
    total = sum(count for _, count in counts)
    return [(name, count, count / total) for name, count in counts] if total else []


def _histogram_chart(histogram: Any) -> charts.Markup:
    says = f"{histogram.label}: histogram of {histogram.documents:,} documents, median about {histogram.median:.3g}"
    for word, bound in (("at least", histogram.low), ("at most", histogram.high)):
        says += f"; {word} {bound:g} is kept" if bound is not None else ""
    return charts.histogram(
        histogram.edges,
        histogram.counts,
        says=says,
        logarithmic=histogram.logarithmic,
        low=histogram.low,
        high=histogram.high,
    )


def _curve_charts(view: RunView, curve: Curve) -> dict[str, Any]:
    """The loss beside what is measured on held-out data; the rate and the norm below it."""
    what = {"pretrain": "held-out text", "finetune": "held-out answers"}[curve.stage]
    lines = [
        charts.Line("training", curve.training, "train"),
        charts.Line("held out", curve.validation, "heldout", marked=True),
    ]
    ends = ", ".join(f"{line.label} {line.points[-1][1]:.4g}" for line in lines if line.points)
    small = (("learning rate", curve.rate), ("gradient norm", curve.gradient))
    return {
        "stage": curve.stage,
        "what": what,
        "summary": view.summary(curve.stage),
        "loss": charts.line_chart(lines, says=f"Bits per byte over training steps of {curve.stage}; at the end: {ends}", x_name="step"),
        "small": [
            (name, charts.line_chart([charts.Line("", points, "train")], says=f"{name} over steps", x_name="step", height=120, zero=True))
            for name, points in small
            if points
        ],
    }


def _panel_charts(panel: Panel) -> dict[str, Any]:
    """A panel with a chart for each row, all on one scale that the models' intervals decide."""
    ends = [
        end for row in panel.rows for score in row.scores for end in (score.low, score.high, score.value) if end is not None
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


def _interval_chart(row: Compared, scale: charts.Scale) -> charts.Markup:
    dots, words = [], []
    for model in MODELS:
        score = row.of(model)
        if score is not None and score.value is not None:
            dots.append(charts.Dot(score.value, score.low, score.high, model))
            words.append(f"{TITLES[model]} {score_figure(score)}")
    words += [f"{name.replace('_', ' ')} {score_figure(row.scores[0], value)}" for name, value in row.baselines.items()]
    references = [reference.value for reference in row.references]
    return charts.interval_row(dots, list(row.baselines.items()), references, scale, says=f"{row.title}: {', '.join(words)}")


def _calibration(view: RunView) -> dict[str, Any] | None:
    facts = read_fact(view, Calibration, "calibration.json")
    if facts is None:
        return None
    lines = [
        charts.Line(
            TITLES[model],
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


def _times(view: RunView) -> dict[str, Any]:
    """Where the time went: each stage, then all else; and what it cost where the recipe tells a price."""
    price = float(view.recipe.get("execution", {}).get("price_per_hour") or 0.0)
    rows = []
    for stage, row in view.rows.items():
        earlier = view.records.get(stage, {}).get("seconds") if row["outcome"] == "reused" else None
        rows.append({"stage": stage, "outcome": row["outcome"], "seconds": row["seconds"], "earlier": earlier})
    total = float(view.run.get("seconds") or sum(row["seconds"] for row in rows))
    rest = max(0.0, total - sum(row["seconds"] for row in rows))
    rows.append({"stage": "all else", "outcome": "", "seconds": rest, "earlier": None})
    longest = max((row["earlier"] or row["seconds"] for row in rows), default=0.0) or 1.0
    for row in rows:
        row["share"] = (row["earlier"] or row["seconds"]) / longest
        row["cost"] = row["seconds"] / 3600 * price
    return {"rows": rows, "total": total, "price": price, "cost": total / 3600 * price}


def _digests(view: RunView) -> list[dict[str, Any]]:
    return [
        {"stage": stage, "part": name, "digest": part.digest, "bytes": part.bytes, "files": len(part.files)}
        for stage, artifact in view.artifacts.items()
        for name, part in artifact.parts.items()
    ]


def _versions(view: RunView) -> list[dict[str, Any]]:
    """The machine and the libraries behind each stage, from the build records."""
    rows = []
    for stage, record in view.records.items():
        host, identity = record.get("host", {}), record["identity"]
        libraries: Sequence[str] = [f"{name} {version}" for name, version in sorted(identity.get("libraries", {}).items())]
        rows.append(
            {
                "stage": stage,
                "run": record["run"],
                "finished": str(record["finished"])[:19].replace("T", " "),
                "libraries": ", ".join(libraries) or "–",
                "python": host.get("python", "–"),
                "machine": ", ".join(
                    str(host[name]) for name in ("processor", "platform") if host.get(name)
                ) + (f", {host['cores']} cores" if host.get("cores") else ""),
            }
        )
    return rows
