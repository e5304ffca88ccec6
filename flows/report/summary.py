"""The key figures of a run as Markdown, for pages that show no HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.report.page import STUDY, search_facts
from flows.report.record import key_facts, notices_in
from flows.report.run_data import RunData
from flows.report.scores import headlines, scores_of
from flows.report.verdict import judged, model_shown
from flows.report.wording import score_figure, verdict_text
from storage.store.local import Store
from tasks.engine.reported import Table
from tasks.evaluate.score import MODEL_NAMES
from tasks.wording import amount, duration, figure


def markdown_summary(store: Store, run: Mapping[str, Any], report: Path, page: str | None) -> str:
    """What was made and what it is worth; `page` is the web address of the report."""
    data = RunData(store, run)
    facts = key_facts(data)
    lines = [f"**{run['run']}**: {run['status']} in {duration(run.get('seconds'))}"]
    made = [
        ("parameters", amount(facts["parameters"]) if facts["parameters"] else None),
        ("training tokens", amount(facts["tokens"]) if facts["tokens"] else None),
        ("training documents", figure(facts["training_documents"]) if facts["training_documents"] else None),
        ("pairs", figure(facts["pairs"]) if facts["pairs"] else None),
    ]
    rows = [f"| {name} | {value} | | |" for name, value in made if value]
    for title, unit, score in headlines(scores_of(data)):
        interval = (
            f"{score_figure(score, score.low)} to {score_figure(score, score.high)}" if score.low is not None else ""
        )
        whose = "candidate, " if model_shown(run) else ""
        what = f"{title}, {whose}{MODEL_NAMES.get(score.model, score.model)} ({unit})"
        rows.append(f"| {what} | {score_figure(score)} | {interval} | {verdict_text(score)} |")
    if rows:
        lines.append("\n".join(["| figure | value | 95 % interval | beside |", "|---|---|---|---|", *rows]))
    notices = notices_in(data)
    if notices:
        lines.append("**Notices**\n\n" + "\n".join(f"- {notice}" for notice in notices))
    verdict = judged(run.get("verdict"))
    if verdict:
        lines.append(f"**Verdict**: {verdict['head']}\n\n" + "\n".join(f"- {reason}" for reason in verdict["reasons"]))
    if search := search_facts(data):
        lines.append(f"**Search**: {search['best']}\n\nThe best recipe: `{search['recipe']}`")
        lines += [_markdown_table(table) for table in data.section(STUDY).tables]
    if run.get("error"):
        lines.append("```text\n" + str(run["error"]).replace("```", "'''") + "\n```")
    lines.append(f"The whole report: `{report}`" + (f", or [in MLflow]({page})" if page else ""))
    return "\n\n".join(lines) + "\n"


def _markdown_table(table: Table) -> str:
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + f"\n\n{table.note}"
