"""`llmill runs`: what ran, the newest last, where a terminal ends."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.text import clipped, digits_of, duration, when

LEGEND = (
    "new: stages built of those reached. Scores in bits per byte: base and tuned\n"
    "on held-out text, and the answers of tuned. Name a run by its digits:"
)


def runs_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """All runs as a table of 80 columns, oldest first."""
    if not runs:
        return "no run yet; start one with `llmill run`"
    lines = [
        f"{'run':<5}{'when (UTC)':<17}{'recipe':<10}{'status':<12}{'time':>10}{'new':>6}"
        f"{'base':>6}{'tuned':>6}{'answers':>8}"
    ]
    lines += [_line(run) for run in runs]
    names = [digits_of(run) for run in runs[-2:]]
    example = f"llmill diff {' '.join(names)}" if len(names) == 2 else f"llmill inspect {names[0]}/filter"
    return "\n".join([*lines, "", LEGEND, example])


def _line(run: Mapping[str, Any]) -> str:
    outcomes = [row["outcome"] for row in run["stages"]]
    new = f"{outcomes.count('built')}/{len(outcomes) - outcomes.count('skipped')}"
    time = duration(run["seconds"]) if "seconds" in run else ""
    scores = {name: f"{value:.2f}" for name, value in headline(run).items()}
    line = f"{digits_of(run):<5}{when(run['started']):<17}{clipped(run.get('recipe_name', ''), 9):<10}"
    line += f"{run['status']:<12}{time:>10}{new:>6}"
    line += f"{scores.get('base', ''):>6}{scores.get('tuned', ''):>6}{scores.get('answers', ''):>8}"
    return line.rstrip()


def headline(run: Mapping[str, Any]) -> dict[str, float]:
    """The figures that stand for a run, in bits per byte, as far as it came to its evaluation."""
    summary: dict[str, float] = next((row["artifact"]["summary"] for row in run["stages"] if _is_evaluation(row)), {})
    names = {
        "base": "heldout_bits_per_byte_base",
        "tuned": "heldout_bits_per_byte_tuned",
        "answers": "answers_bits_per_byte_tuned",
    }
    return {short: summary[name] for short, name in names.items() if name in summary}


def _is_evaluation(row: Mapping[str, Any]) -> bool:
    return row["stage"] == "evaluate" and "artifact" in row
