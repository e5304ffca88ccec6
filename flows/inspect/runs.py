"""`llmill runs`: what ran, the newest last, next to the prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.champion.verdict import decision_of, is_retraining
from flows.wording import digits_of
from storage.errors import ConfigError, DataError, did_you_mean
from storage.runs import STATUSES
from tasks.evaluate.score import BASE, TUNED
from tasks.wording import clipped, rough_duration, when

HEADLINES = {  # column -> figure of an evaluation's summary
    BASE: f"heldout_bits_per_byte_{BASE}",
    TUNED: f"heldout_bits_per_byte_{TUNED}",
    "answers": f"answers_bits_per_byte_{TUNED}",
}
LEGEND = """new: stages built of those reached. Scores in bits per byte: base and tuned
on held-out text, and the answers of tuned. Name a run by its digits:"""
JUDGED_LEGEND = """new: stages built of those reached. Verdict: what a retraining came to. Scores
of base and tuned on held-out text, in bits per byte; of a retraining those of
the candidate, not of the champion. Name a run by its digits:"""


def chosen_runs(
    runs: Sequence[Mapping[str, Any]],
    statuses: Sequence[str] = (),
    recipes: Sequence[str] = (),
    limit: int | None = None,
) -> list[Mapping[str, Any]]:
    """The newest `limit` of the runs that have one of the statuses and are of one of the recipes; none given: of any.

    Raises ConfigError for a status that no run can have, and DataError for a recipe of which there is no run.
    """
    for status in statuses:
        if status not in STATUSES:
            near = did_you_mean(status, STATUSES)
            raise ConfigError(f"--status {status}: no such status{near}. Statuses: {', '.join(STATUSES)}")
    known = sorted({recipe_of(run) for run in runs})
    for recipe in recipes:
        if recipe not in known:
            there = f"Recipes that were run: {', '.join(known)}" if known else "There is no run yet"
            raise DataError(f"--recipe {recipe}: there is no run of it{did_you_mean(recipe, known)}. {there}")
    found = [
        run
        for run in runs
        if (not statuses or run["status"] in statuses) and (not recipes or recipe_of(run) in recipes)
    ]
    return found if limit is None else found[-limit:]


def recipe_of(run: Mapping[str, Any]) -> str:
    """The name of a run's recipe."""
    return str(run.get("recipe_name", ""))


def runs_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Runs as a table of 80 columns, in their order; with a verdict where one of them is a retraining."""
    judged = any(is_retraining(run) for run in runs)
    line = _judged_line if judged else _line
    heads = {name: name for name in ("run", "recipe", "status", "time", "new", *HEADLINES, "verdict")}
    lines = [line({**heads, "when": "when (UTC)"}), *(line(_cells(run)) for run in runs)]
    names = [digits_of(run) for run in runs[-2:]]
    example = f"llmill diff {' '.join(names)}" if len(names) == 2 else f"llmill inspect {names[0]}/filter"
    return "\n".join([*lines, "", JUDGED_LEGEND if judged else LEGEND, example])


def _line(cells: Mapping[str, str]) -> str:
    line = f"{cells['run']:<5}{cells['when']:<17}{clipped(cells['recipe'], 9):<10}{cells['status']:<12}"
    line += f"{cells['time']:>10}{cells['new']:>6}"
    return f"{line}{cells[BASE]:>6}{cells[TUNED]:>6}{cells['answers']:>8}".rstrip()


def _judged_line(cells: Mapping[str, str]) -> str:
    """The verdict takes the place of the year and of the answers."""
    when = cells["when"] if "(" in cells["when"] else cells["when"][5:]
    line = f"{cells['run']:<5}{when:<12}{clipped(cells['recipe'], 9):<10}{cells['status']:<12}"
    line += f"{cells['verdict']:<9}{cells['time']:>10}{cells['new']:>7}"
    return f"{line}{cells[BASE]:>7}{cells[TUNED]:>7}".rstrip()


def _cells(run: Mapping[str, Any]) -> dict[str, str]:
    outcomes = [row["outcome"] for row in run["stages"]]
    # Not `figure`: with two digits behind the point a column can be read down.
    scores = {name: f"{value:.2f}" for name, value in headline(run).items()}
    return {
        "run": digits_of(run),
        "when": when(run["started"]),
        "recipe": recipe_of(run),
        "status": run["status"],
        "time": rough_duration(run["seconds"]) if "seconds" in run else "",
        "new": f"{outcomes.count('built')}/{len(outcomes) - outcomes.count('skipped')}",
        "verdict": decision_of(run),
        **{name: scores.get(name, "") for name in HEADLINES},
    }


def headline(run: Mapping[str, Any]) -> dict[str, float]:
    """The headline figures of a run, in bits per byte, as far as it came to its evaluation."""
    summary: dict[str, float] = next((row["artifact"]["summary"] for row in run["stages"] if _is_evaluation(row)), {})
    return {short: summary[name] for short, name in HEADLINES.items() if name in summary}


def _is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a stage measured the run's own models: the first that made scores did."""
    return "scores" in row.get("artifact", {}).get("parts", {})
