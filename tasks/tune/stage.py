"""What a search came to: all trials, how much each field mattered, the best recipe, and best against first.

In: the trials (they are settings of this stage: equal trials, equal key), and where the figure is a score the
evaluations of the first trial and of the best. Out: `trials` (trials.jsonl, a row each), `result` (result.json) and
`recipe` (best.yaml, which `llmill run` takes). Cost: a second, most of it Optuna's import.

The importance of a field is PED-ANOVA's (Watanabe et al. 2023): how much the distribution of its values among the best
trials differs from that among all, as shares that sum to one. The interval is of the paired difference of the best
model and that of the first trial over the items that both have answered (tasks/evaluate/statistics/paired.py); a figure
that is no mean over items has none. The best of many trials is a little lucky: the interval knows nothing of that.
"""

import json
from dataclasses import asdict
from typing import Any

import yaml
from pydantic import Field

from storage.canonical import canonical_json, digest_of
from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.tune.importance import importances
from tasks.tune.trials import Best, Trial, best_of, count_states
from tasks.tune.values import Values

MODEL = "tuned"  # of an evaluation: the one that is released
DIGITS = 16


class StudyConfig(StageConfig):
    """What was searched, and what was found."""

    study: str = Field(description="The name of the study in the folder `tuning` of the home.")
    figure: str = Field(description="STAGE.FIGURE")
    best: Best
    method: str
    seed: int
    fields: dict[str, Values]
    trials: tuple[Trial, ...]
    recipe: dict[str, Any] = Field(description="The document of the best recipe.")

    def identity(self) -> dict[str, Any]:
        """With digests of what is long, so that a reason for a build is one that can be read."""
        trials = {str(trial.number): digest_of(trial.model_dump(mode="json"))[:DIGITS] for trial in self.trials}
        fields = {path: digest_of(values.model_dump(mode="json"))[:DIGITS] for path, values in self.fields.items()}
        return {**super().identity(), "trials": trials, "fields": fields, "recipe": digest_of(self.recipe)[:DIGITS]}


@stage(
    "study",
    parts=("trials", "result", "recipe"),
    reads={"first": ("scores", "items"), "best": ("scores", "items")},
    optional=("first", "best"),
    libraries=("optuna",),
    about="tasks.tune.about.STUDY",
)
def study(config: StudyConfig, first: Artifact | None, best: Artifact | None, *, context: Context) -> Summary:
    """Sum up the trials of a search: a table, what mattered, the best recipe, and how sure that is."""
    trials = config.trials
    own, found = trials[0], best_of(trials, config.best)
    assert found is not None  # the first trial is finished, or there is no search
    rows = [trial.model_dump(mode="json", exclude={"curve"}) for trial in trials]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (context.part("trials") / "trials.jsonl").write_text(text, encoding="utf-8")
    interval = _interval(config.figure, first, best) if found.number != own.number else None
    result = {
        "study": config.study,
        "figure": config.figure,
        "best_is": config.best,
        "method": config.method,
        "seed": config.seed,
        "fields": {path: field.model_dump(mode="json") for path, field in config.fields.items()},
        "trials": count_states(trials),
        "first": {"number": own.number, "settings": own.settings, "figure": own.figure},
        "best": {"number": found.number, "settings": found.settings, "figure": found.figure},
        "importance": importances(config.fields, config.best, trials),
        "has_items": first is not None,
        "interval": interval,
    }
    (context.part("result") / "result.json").write_bytes(canonical_json(result) + b"\n")
    document = yaml.safe_dump(config.recipe, sort_keys=False, allow_unicode=True)
    (context.part("recipe") / "best.yaml").write_text(document, encoding="utf-8")
    return {
        "trials": len(trials),
        **count_states(trials),
        "best_trial": found.number,
        "best": found.figure,
        "first": own.figure,
        **({name: interval[name] for name in ("difference", "low", "high")} if interval else {}),
    }


def _interval(figure: str, first: Artifact | None, best: Artifact | None) -> dict[str, Any] | None:
    """The paired difference of the best model from the first; None where there is nothing to pair."""
    if first is None or best is None:
        return None
    from tasks.evaluate.statistics.paired import compare_evaluations

    name = figure.partition(".")[2]
    for line in compare_evaluations(first, best, MODEL, MODEL):
        if f"{line.name}/{line.metric}" == name and line.comparison is not None:
            return {**asdict(line.comparison), "outcome": line.outcome.value}
    return None
