"""From a run to its page: figures gathered, charts drawn, everything escaped by the templates."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.report.corpus import sources_of, vocabulary_of
from flows.report.drops import document_flow
from flows.report.record import (
    count_tables,
    digest_rows,
    figure_rows,
    key_facts,
    notices_in,
    plan_rows,
    splits_of,
    times_of,
    version_rows,
)
from flows.report.run_data import RunData
from flows.report.scores import Memorisation, headlines, panels, read_fact, read_samples, scores_of
from flows.report.section_charts import calibration_chart, curve_charts, histogram_chart, panel_charts
from flows.report.templates import style, template
from flows.report.verdict import judged, model_shown
from flows.report.wording import difference_text, recipe_text, verdict_text
from storage.addresses import redacted
from storage.canonical import canonical_json
from storage.files import write_atomic
from storage.store.local import Store
from tasks.tune.table import best_text

STUDY = "study"  # the stage that sums up a search
COMPRESSION = "compression"  # the stage whose tables stand beside the tokenizer
ELSEWHERE = (STUDY, COMPRESSION)  # tables that do not stand with the documents


def report_path(store: Store, run: Mapping[str, Any]) -> Path:
    """Where the report of a run is: beside its run file."""
    return store.home / "runs" / f"{run['run']}.html"


def write_report(store: Store, run: Mapping[str, Any]) -> Path:
    """Write the report of a run, in one step; returns its path. Equal run files and stores give equal bytes."""
    path = report_path(store, run)
    as_in_its_file = json.loads(canonical_json(run))
    write_atomic(path, render(RunData(store, as_in_its_file)).encode())
    return path


def render(data: RunData) -> str:
    """The report of a run as one HTML document; sections without data are left out."""
    return template("page.html.jinja").render(**style(), **_sections(data))


def search_facts(data: RunData) -> dict[str, str]:
    """What a search came to, in words; empty for any other run."""
    found = data.run.get("tune", {})
    return {"best": best_text(found), "recipe": found["recipe"]} if "recipe" in found else {}


def _wanted_name(data: RunData) -> str:
    name: str = data.recipe.get("release", {}).get("name", data.run["run"])
    return name


def _sections(data: RunData) -> dict[str, Any]:
    scores, facts = scores_of(data), key_facts(data)
    sections = {stage: data.section(stage) for stage in data.rows}
    shown = panels(scores)
    rows = [row for panel in shown for row in panel.rows]
    sources = sources_of(data)
    return {
        "run": {"error": None, "seconds": None, "prefect": None, "mlflow": None, "model": None, **data.run},
        "name": data.summary(data.last_with("release")).get("name") or _wanted_name(data),
        "facts": facts,
        "notices": notices_in(data),
        "headlines": headlines(scores),
        "verdict": verdict_text,
        "judged": judged(data.run.get("verdict")),
        "shown": model_shown(data.run),
        "plan": plan_rows(data),
        "flow": document_flow(data),
        "counts": count_tables(data),
        "tables": [table for stage, one in sections.items() if stage not in ELSEWHERE for table in one.tables],
        "study": sections[STUDY].tables if STUDY in sections else (),
        "compression": sections[COMPRESSION].tables if COMPRESSION in sections else (),
        "search": search_facts(data),
        "splits": splits_of(facts),
        "histograms": [(one, histogram_chart(one)) for section in sections.values() for one in section.histograms],
        "sources": sources.sources,
        "languages": sources.languages,
        "vocabulary": vocabulary_of(data),
        "tokens": data.summary(data.last_with("tokens")),
        "curves": [
            curve_charts(data.about(stage).title or stage, section.curve)
            for stage, section in sections.items()
            if section.curve
        ],
        "panels": [panel_charts(panel) for panel in shown],
        "compared": [(row, difference_text(row.change, row.scores[0])) for row in rows if row.change is not None],
        "scores": scores,
        "calibration": calibration_chart(data),
        "memorisation": read_fact(data, Memorisation, "memorisation.json"),
        "samples": read_samples(data),
        "times": times_of(data),
        "figures": figure_rows(data),
        "digests": digest_rows(data),
        "recipe": redacted(recipe_text(data.recipe)),
        "versions": version_rows(data),
    }
