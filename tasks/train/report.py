"""What the report shows of a training: its curve, and what became of the pairs or preferences.

The part `curve` has a row for each step, thinned to about a thousand.
"""

import json
from collections.abc import Sequence
from typing import Any

from tasks.collect.report import PAIRS, PREFERENCES_HEADING
from tasks.engine.about import Figures, MadeRun
from tasks.engine.reported import Count, Curve, Section
from tasks.wording import figure, signed

MOST_POINTS = 150  # of a drawn line
_PAIRS_SAID = {
    "dropped_leaking": "with a question that a held-out pair has, dropped",
    "dropped_too_long": "too long for the context, dropped",
    "cut_conversations": "conversations cut to the context, without their oldest exchanges",
    "training_pairs": "trained on",
    "heldout_pairs": "held out",
}
_PREFERENCES_SAID = (
    ("dropped_leaking", "with the prompt of a held-out one, not learned from"),
    ("dropped_too_long", "too long for the context, not learned from"),
    ("dropped_alike", "with two answers that are the same, neither learned from nor scored"),
    ("training_preferences", "trained on"),
    ("heldout_preferences", "held out"),
)

Points = tuple[tuple[float, float], ...]


def report_pretraining(run: MadeRun, stage: str) -> Section:
    """The curve, and at its end the loss on all held-out text, or on the words that are hidden there."""
    summary = run.summary(stage)
    if "filled_in" in summary:
        filled = f"{figure(summary['filled_in'])}{_between(summary, 'filled_in')}"
        filled += _difference(summary, "filled_in_change", "a change of")
        frequent = f"{figure(summary['most_frequent'])}{_difference(summary, 'over_most_frequent', 'a difference of')}"
        note = f"Share of hidden tokens that is filled in rightly: {filled}; by always saying the commonest: {frequent}"
        return Section(curve=_curve(run, stage, "hidden words of held-out text", "heldout_loss", note, unit="loss"))
    note = ""
    if "bits_per_byte_change" in summary:
        before, after = (figure(summary[name]) for name in ("bits_per_byte_before", "bits_per_byte"))
        change = _difference(summary, "bits_per_byte_change", "a change of")
        note = f"Held-out text before: {before} bits per byte; after: {after}{change}. "
    if "rows" in summary:
        note += _rows_said(summary)
    return Section(curve=_curve(run, stage, "held-out text", "bits_per_byte", note))


def _rows_said(summary: Figures) -> str:
    """What a pass over the training tokens leaves out."""
    names = ("rows", "cut_documents", "lost_tokens", "padding_tokens")
    rows, cut, lost, padding = (f"{summary[name]:,}" for name in names)
    return f"A pass has {rows} rows: documents cut {cut}, tokens left out {lost}, places of padding {padding}"


def report_finetuning(run: MadeRun, stage: str) -> Section:
    """The curve, at its end the loss on held-out answers; and which pairs it was trained on."""
    summary = run.summary(stage)
    counts = tuple(Count(what=what, count=summary[name]) for name, what in _PAIRS_SAID.items() if summary.get(name))
    curve = _curve(run, stage, "held-out answers", "answer_bits_per_byte", _before_and_after(summary))
    return Section(curve=curve, counts={PAIRS: counts} if counts else {})


def report_alignment(run: MadeRun, stage: str) -> Section:
    """The curve of the loss, and the rewards of held-out answers before and after."""
    summary = run.summary(stage)
    counts = tuple(Count(what=what, count=summary[name]) for name, what in _PREFERENCES_SAID if summary.get(name))
    note = ""
    if "win_rate" in summary:
        wins, gaps = (
            f"{figure(summary[f'{name}_before'])} before, {figure(summary[name])} after"
            for name in ("win_rate", "margin")
        )
        wins += f"{_between(summary, 'win_rate')}{_difference(summary, 'win_rate_change', 'a change of')}"
        gaps += _difference(summary, "margin_change", "a change of")
        note = f"Held-out preferences whose chosen answer is rewarded more: {wins}; by how much on average: {gaps}"
    curve = _curve(run, stage, "held-out preferences", "loss", note, unit="loss")
    return Section(curve=curve, counts={PREFERENCES_HEADING: counts} if counts else {})


def report_nothing(run: MadeRun, stage: str) -> Section:
    """Nothing: the stage that reads its result says what comes of it."""
    return Section()


def _between(summary: Figures, name: str) -> str:
    """The 95 % interval of a figure; nothing where there is none."""
    low, high = (summary.get(f"{name}_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f" ({figure(low)} to {figure(high)})"


def _difference(summary: Figures, name: str, what: str) -> str:
    """A difference and its 95 % interval; nothing of builds before 2026-12, which had none."""
    return f", {what} {signed(summary[name])}{_between(summary, name)}" if name in summary else ""


def _before_and_after(summary: Figures) -> str:
    names = ("base_answer_bits_per_byte", "answer_bits_per_byte", "other_prompt_bits_per_byte")
    if not all(name in summary for name in names):
        return ""
    before, after, other = (figure(summary[name]) for name in names)
    return f"Before: {before}; after: {after}; after, with another pair's prompt: {other}"


def _curve(
    run: MadeRun, stage: str, heldout: str, final: str, note: str = "", unit: str = "bits_per_byte"
) -> Curve | None:
    """The curve of a training in a unit; `final` is the figure of its summary for the held-out data at its end."""
    part = run.part(stage, "curve")
    if part is None:
        return None
    with (part / "curve.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if not rows:
        return None
    validation = dict(_points(rows, f"validation_{unit}"))
    at_end = run.summary(stage).get(final)
    if at_end is not None:
        validation[float(rows[-1]["step"])] = float(at_end)
    return Curve(
        heldout=heldout,
        note=note,
        unit=unit.replace("_", " "),
        training=_thinned(_points(rows, unit)),
        validation=tuple(sorted(validation.items())),
        rate=_thinned(_points(rows, "learning_rate")),
        gradient=_thinned(_points(rows, "gradient_norm")),
        events=tuple((float(row["step"]), row["event"]) for row in rows if "event" in row),
    )


def _points(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in rows if isinstance(row.get(name), int | float)]


def _thinned(points: list[tuple[float, float]]) -> Points:
    """Means of equal runs of points: also what makes the line of a noisy loss readable."""
    every = -(-len(points) // MOST_POINTS)
    runs = [points[first : first + every] for first in range(0, len(points), every)] if points else []
    return tuple((run[-1][0], sum(y for _, y in run) / len(run)) for run in runs)
