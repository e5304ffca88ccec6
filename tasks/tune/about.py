"""What the stage study says about itself: its table at the end of a run, and its section of the report."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storage.home import home
from storage.store.artifacts import Artifact
from tasks.engine.about import About, Figures, MadeRun, not_about_documents
from tasks.engine.reported import Section, Table
from tasks.tune.table import best_text, by_share, importance_text, interval_text, table_rows, trial_lines
from tasks.tune.trials import best_file


def _read(result: Any, trials: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result and the rows of the trials, from their two parts."""
    rows = (trials / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((result / "result.json").read_bytes()), [json.loads(row) for row in rows]


def _report(run: MadeRun, stage: str) -> Section:
    result, trials = run.part(stage, "result"), run.part(stage, "trials")
    if result is None or trials is None:
        return Section()
    found, rows = _read(result, trials)
    head, *body = table_rows(found, rows)
    shares = tuple((path, f"{share:.2f}") for path, share in by_share(found))
    tables = [Table(heading="Trials", columns=tuple(head), rows=tuple(map(tuple, body)), note=interval_text(found))]
    if shares:
        note = "Shares of PED-ANOVA over the finished trials; they sum to one."
        tables.append(Table(heading="What mattered", columns=("field", "importance"), rows=shares, note=note))
    return Section(tables=tuple(tables))


def _at_end(artifact: Artifact, summary: Figures) -> list[tuple[str, str]]:
    return list(_lines(*_read(artifact["result"], artifact["trials"])))


def _lines(found: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    yield from trial_lines(found, rows)
    yield "", ""
    yield "best", best_text(found)
    yield "interval", interval_text(found)
    yield "importance", importance_text(found)
    yield "next", f"llmill run {shlex.quote(_from_here(best_file(home(), found['study'])))}"


def _from_here(path: Path) -> str:
    """A path as it is typed in the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


STUDY = About(
    title="Search",
    work=None,
    headline={"trials": "trials", "best_figure": "best", "first_figure": "first"},
    report=_report,
    at_end=_at_end,
    explain=not_about_documents,
)
