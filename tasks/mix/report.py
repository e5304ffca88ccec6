"""What the report shows of the mix: of each name how much there is, what the recipe wants, and what it gets."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from storage.listing import and_more
from tasks.engine.about import MadeRun
from tasks.engine.reported import Section, Table
from tasks.wording import as_per_cent, figure

MOST_ROWS = 20  # of a phase, the largest shares first
COLUMNS = ("tokens there", "wanted", "of the mix", "tokens", "passes")


def report(run: MadeRun, stage: str) -> Section:
    """A table for each phase."""
    part = run.part(stage, "mix")
    if part is None:
        return Section()
    phases = json.loads((part / "mix.json").read_bytes())
    return Section(tables=tuple(_table(phases, number, run.config(stage)["by"]) for number in range(len(phases))))


def _table(phases: list[dict[str, Any]], number: int, by: str) -> Table:
    phase = phases[number]
    heading = "Mix" if len(phases) == 1 else f"Mix, phase {number + 1}: {as_per_cent(phase['share'])} of the training"
    if "scores" in phase:
        heading += ", " + (" to ".join(map(figure, phase["scores"])) if phase["scores"] else "without a score")
    ranked = sorted(phase["names"].items(), key=lambda item: (-item[1]["wanted"], item[0]))
    note = and_more(len(ranked) - MOST_ROWS, f"of a {by}") if len(ranked) > MOST_ROWS else ""
    return Table(heading=heading, columns=(by, *COLUMNS), rows=tuple(_rows(dict(ranked[:MOST_ROWS]), phase)), note=note)


def _rows(shown: Mapping[str, Any], phase: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    wanted, given = (sum(one[what] for one in phase["names"].values()) for what in ("wanted", "given"))
    for name, one in shown.items():
        shares = (as_per_cent(one["wanted"] / wanted), as_per_cent(one["given"] / given if given else 0.0))
        passes = figure(one["given"] / one["there"]) if one["there"] else "none"
        yield ("others" if name == "*" else name, figure(one["there"]), *shares, figure(one["given"]), passes)
