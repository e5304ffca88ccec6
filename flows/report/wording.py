"""Figures as words: numbers, scores, baselines and verdicts as the page and the summary show them."""

from collections.abc import Mapping
from typing import Any

import yaml

from flows.build import Recipe
from tasks.evaluate.score import Change, Score
from tasks.statistics.intervals import LARGEST
from tasks.statistics.outcome import Outcome
from tasks.wording import as_per_cent, figure, signed

BASELINES = {"base_plain_form": "base model without chat form", "most_frequent_word": "the commonest word"}
AGAINST = {
    Outcome.BETTER: "better than",
    Outcome.UNCLEAR: "not clearly better than",
    Outcome.WORSE: "not better than",
}


def verdict_text(score: Score) -> str:
    """A score against its best baseline, in words."""
    best = score.best_baseline
    if best is None:
        return "no baseline"
    return f"{AGAINST.get(score.against_baselines, 'beside')} {baseline_name(best[0])} ({score_figure(score, best[1])})"


def baseline_name(name: str) -> str:
    """A baseline for people."""
    return BASELINES.get(name, name.replace("_", " "))


def score_figure(score: Score, value: float | None = None) -> str:
    """A score's value, or another of its kind: shares as per cent, others as they are."""
    value = score.value if value is None else value
    if value is None:
        return "–"
    if value >= LARGEST:
        return f"over {figure(LARGEST)}"
    return as_per_cent(value) if score.is_share else figure(value)


def difference_text(change: Change, score: Score) -> str:
    """Fine-tuned less base with its sign and interval: shares in points, others as they are."""
    scale, unit = (100, " points") if score.is_share else (1, "")
    text = f"{signed(scale * change.difference)}{unit}"
    if change.low is None or change.high is None:
        return text
    return f"{text} ({signed(scale * change.low)} to {signed(scale * change.high)})"


def rough(value: float) -> str:
    """Three significant digits, without an exponent: `figure` of what a bin of a histogram knows no better."""
    rounded = float(f"{value:.3g}")
    return figure(int(rounded) if rounded >= 100 else rounded)


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe as YAML, its sections in the order of the stages; limits that no stage has are left out."""
    sections = [name for name in dict.fromkeys((*Recipe.model_fields, *sorted(recipe))) if name in recipe]
    shown = {**recipe, "execution": _without_unset_limits(recipe.get("execution", {}))}
    return "".join(yaml.safe_dump({name: shown[name]}, allow_unicode=True, width=100) for name in sections)


def _without_unset_limits(execution: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {
        stage: {name: value for name, value in limits.items() if value is not None}
        for stage, limits in execution.get("stages", {}).items()
    }
    return {**execution, "stages": {stage: limits for stage, limits in chosen.items() if limits}}
