"""The result of a search in words and rows, for the terminal, the report and Prefect. All of it is JSON as stored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.tune.trials import FINISHED, STOPPED
from tasks.tune.values import shown
from tasks.wording import clipped, duration, figure, signed

Row = Mapping[str, Any]  # a trial as JSON

SHOWN_TRIALS = 10
WHY_CHARACTERS = 200
OWN = "the recipe's own settings"


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last word of each path where no other ends with it, else the whole path."""
    ends = [path.rpartition(".")[2] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}


def settings_text(settings: Mapping[str, Any]) -> str:
    """`matrix_rate 0.0042, momentum 0.9`"""
    names = short_names(list(settings))
    return ", ".join(f"{names[path]} {shown(value)}" for path, value in settings.items())


def outcome_text(row: Row) -> str:
    """What came of a trial: its figure, or why it has none."""
    if row["state"] == FINISHED:
        return figure(row["figure"])
    if row["state"] == STOPPED:
        return f"stopped at step {row['stopped_at']:,}"
    return str(row["state"])


def why_text(row: Row) -> str:
    """Why a trial has no figure, cut; empty for one that has."""
    return clipped(row["why"], WHY_CHARACTERS)


def ranked(found: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
    """The trials, the best first; those without a figure last, in their order."""
    sign = 1 if found["best_is"] == "lowest" else -1
    finished = [row for row in rows if row["state"] == FINISHED]
    others = [row for row in rows if row["state"] != FINISHED]
    return [*sorted(finished, key=lambda row: (sign * row["figure"], row["number"])), *others]


def table_rows(found: Mapping[str, Any], rows: Sequence[Row]) -> list[list[str]]:
    """The table of all trials, its first row the names of the columns."""
    paths = list(found["fields"])
    names = short_names(paths)
    table = [["trial", "figure", "time", *(names[path] for path in paths)]]
    for row in ranked(found, rows):
        number = f"{row['number']} (own settings)" if row["number"] == 1 else str(row["number"])
        cells = [shown(row["settings"][path]) for path in paths]
        table.append([number, outcome_text(row), duration(row["seconds"]), *cells])
    return table


def trial_lines(found: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """The best trials, and the first, for the terminal: what names a line, and the line."""
    best_first = ranked(found, rows)
    chosen = [row for place, row in enumerate(best_first) if place < SHOWN_TRIALS or row["number"] == 1]
    width = max(len(outcome_text(row)) for row in chosen)
    times = {row["number"]: duration(row["seconds"]) for row in chosen}
    wide = max(map(len, times.values()))
    yield "trial", f"{'figure':<{width}}  {'time':>{wide}}  settings"
    for row in chosen:
        text = settings_text(row["settings"]) + (f" ({OWN})" if row["number"] == 1 else "")
        yield f"{row['number']}", f"{outcome_text(row):<{width}}  {times[row['number']]:>{wide}}  {text}"
    if len(chosen) < len(rows):
        yield "", f"and {len(rows) - len(chosen):,} more: llmill cat latest/study"


def importance_text(found: Mapping[str, Any]) -> str:
    """How much each field mattered."""
    if not found["importance"]:
        return "not known: it takes five finished trials within the space that differ"
    names = short_names(list(found["fields"]))
    return ", ".join(f"{names[path]} {share:.2f}" for path, share in by_share(found))


def by_share(found: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Fields and their importances, the greatest first."""
    return sorted(found["importance"].items(), key=lambda entry: -entry[1])


def best_text(found: Mapping[str, Any]) -> str:
    """The best trial beside the first."""
    best, first = found["best"], found["first"]
    if best["number"] == first["number"]:
        return f"trial 1, {OWN}: {found['figure']} {figure(first['figure'])}"
    difference = signed(best["figure"] - first["figure"])
    return (
        f"trial {best['number']}: {found['figure']} {figure(best['figure'])}, against {figure(first['figure'])} of "
        f"{OWN} ({difference})"
    )


def interval_text(found: Mapping[str, Any]) -> str:
    """How sure the difference of best and first is."""
    if found["best"]["number"] == found["first"]["number"]:
        return f"none: nothing was better than {OWN}"
    interval = found["interval"]
    if interval is None:
        why = "the models have no item in common" if found["has_items"] else f"{found['figure']} is no mean over items"
        return f"none: {why}; search by a score, such as evaluate.answers/bits_per_byte, for one"
    head = f"best less first {signed(interval['difference'])} on {interval['items']:,} items"
    if interval["low"] is None:
        return f"none: {head}, all of one document"
    bounds = f"[{signed(interval['low'])}, {signed(interval['high'])}]"
    says = {"better": "better beyond it", "worse": "worse beyond it"}.get(interval["outcome"], "within the noise")
    return f"{head}, 95 % {bounds}: {says}"
