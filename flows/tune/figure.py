"""The figure that a search goes by: `STAGE.FIGURE` of a stage's summary, or `evaluate.NAME/METRIC` of the scores.

A score is that of the fine-tuned model, the one that is released. Which figures a stage has it says itself
(`About.figures`); the scores are those that evaluation knows, and any of a benchmark where the recipe asks for some.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.build import Recipe, building
from storage.errors import ConfigError, did_you_mean
from storage.store.artifacts import Artifact
from tasks.engine.stage import Stage
from tasks.evaluate.score import TUNED, read_scores
from tasks.retrain.config import OWN_FIGURES, is_own_figure

SCORES = "scores"  # the part of an evaluation that holds them


@dataclass(frozen=True, slots=True)
class SearchedFigure:
    """A figure and the stage that makes it; `is_score`: it is a mean over items."""

    stage: str
    name: str
    is_score: bool


def find_figure(text: str, recipe: Recipe, where: str) -> SearchedFigure:
    """The figure of that name; raises ConfigError where no stage of the recipe has it, or it is not a number."""
    stages = {stage.name: stage for stage in building(recipe).stages}
    able = {name: stage for name, stage in stages.items() if figures_of(stage)}
    name, _, wanted = text.partition(".")
    if name not in stages:
        near = did_you_mean(name, able)
        raise ConfigError(f"{where}: figure: {text}: no stage {name!r}{near}. Stages with figures: {', '.join(able)}")
    if name not in able:
        raise ConfigError(
            f"{where}: figure: {text}: {name} has no number that tells how good a model is. "
            f"Stages with figures: {', '.join(able)}"
        )
    known, is_score = figures_of(stages[name]), SCORES in stages[name].parts
    benchmark = is_score and bool(recipe.evaluate.tasks) and "/" in wanted
    if wanted in known or (is_score and is_own_figure(wanted)) or benchmark:
        return SearchedFigure(name, wanted, is_score)
    near, ours = did_you_mean(wanted, known), ", ".join(known)
    asked = " (and those of the benchmarks that evaluate.tasks names: there are none)" if is_score else ""
    raise ConfigError(f"{where}: figure: {text}: {name} has no such number{near}. Its figures: {ours}{asked}")


def figures_of(stage: Stage) -> tuple[str, ...]:
    """The figures of a stage that a search can go by."""
    if SCORES in stage.parts:
        return tuple(f"{name}/{metric}" for name, metrics in OWN_FIGURES.items() for metric in metrics)
    return stage.about.figures


def value_of(figure: SearchedFigure, artifact: Artifact, summary: Mapping[str, Any]) -> float | None:
    """The figure of one result; None where it was not measured. Raises ConfigError where there is none of the name."""
    if not figure.is_score:
        return finite(summary.get(figure.name))
    scores = [score for score in read_scores(artifact) if score.model == TUNED]
    found: Sequence[float | None] = [score.value for score in scores if score.figure == figure.name]
    if not found:
        known = [score.figure for score in scores]
        near = did_you_mean(figure.name, known)
        raise ConfigError(
            f"figure: evaluate.{figure.name}: not measured by this recipe{near}. Measured were {', '.join(known)}"
        )
    return finite(found[0])


def finite(value: Any) -> float | None:
    """A number that can be compared; None for any other value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
