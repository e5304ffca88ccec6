"""What the terminal says at the end of a run: how it ended, how to continue, notices, verdict, where everything is."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.champion.verdict import verdict_lines
from flows.pipeline import Pipeline
from flows.terminal.columns import NAMES, unbroken, wrapped
from flows.wording import digits_of
from storage.errors import LlmillError
from storage.listing import and_more
from storage.runs import FAILED, INTERRUPTED
from tasks.engine.listener import StageResult
from tasks.notices import notices_of
from tasks.wording import duration

NOTICES = 5  # said again at the end


def ending_lines(
    data: Mapping[str, Any],
    results: Sequence[StageResult],
    pipeline: Pipeline,
    report: Path | None,
    error: BaseException | None,
) -> list[str]:
    """The lines after those of the stages. `data` is what the run file holds; `error` is what ended the run, if any."""
    places = _places(data, results, pipeline, report)
    return ["", *_how(data, results, error), *_notices(results), *_verdict(data), *places]


def _how(data: Mapping[str, Any], results: Sequence[StageResult], error: BaseException | None) -> list[str]:
    built = sum(result.outcome == "built" for result in results)
    reused = sum(result.outcome == "reused" for result in results)
    notices = len(_all_notices(results))
    counts = f"{built} built, {reused} reused" + (f", {notices} notice{'s' * (notices != 1)}" if notices else "")
    counts += _hit(data)
    head, indent = f"{data['status']} in {duration(data['seconds'])}: ", " " * NAMES
    if data["status"] not in (FAILED, INTERRUPTED):
        return wrapped(counts, head, indent)
    return [*wrapped(_how_to_continue(data, results, error), head, indent), *wrapped(counts, indent)]


def _how_to_continue(data: Mapping[str, Any], results: Sequence[StageResult], error: BaseException | None) -> str:
    """Where the run stopped, and how to continue: by `retry`, which keeps its recipe, or with a changed recipe."""
    stage = results[-1].stage if results and results[-1].outcome == "failed" else None
    retry = unbroken(f"llmill retry {digits_of(data)}")
    if data["status"] == INTERRUPTED:
        return f"stopped in {stage}; go on with {retry}" if stage else f"go on with {retry}"
    failed = f"{stage} failed; " if stage else ""
    if isinstance(error, LlmillError):
        return f"{failed}fix it and go on with {retry}, or change the recipe and run it again: what is built is reused"
    return f"{failed}go on with {retry}"


def _hit(data: Mapping[str, Any]) -> str:
    """How good the plan's estimates were, where all that was built had one."""
    rows = [row for row in data["stages"] if row["outcome"] == "built"]
    if not rows or not all("estimate_seconds" in row for row in rows):
        return ""
    took, planned = (sum(row[name] for row in rows) for name in ("seconds", "estimate_seconds"))
    return f"; building took {duration(took)}, planned were {duration(planned)}"


def _all_notices(results: Sequence[StageResult]) -> list[str]:
    return [notice for result in results for notice in notices_of(result.summary)]


def _notices(results: Sequence[StageResult]) -> Iterator[str]:
    notices = _all_notices(results)
    for notice in notices[:NOTICES]:
        yield from wrapped(notice, f"{'notice':<{NAMES}}")
    if len(notices) > NOTICES:
        yield f"{'notice':<{NAMES}}{and_more(len(notices) - NOTICES, 'above and in the report')}"


def _verdict(data: Mapping[str, Any]) -> list[str]:
    return verdict_lines(data["verdict"]) if "verdict" in data else []


def _places(
    data: Mapping[str, Any], results: Sequence[StageResult], pipeline: Pipeline, report: Path | None
) -> Iterator[str]:
    for result in results:
        lines = pipeline.about(result.stage).at_end(result.artifact, result.summary) if result.artifact else []
        for name, text in lines:
            yield f"{name:<{NAMES}}{text}".rstrip()
    if report is not None:
        yield f"{'report':<{NAMES}}{report}"
    if "prefect" in data:
        yield f"{'prefect':<{NAMES}}{data['prefect']['url']}"
    if "mlflow" in data and data["mlflow"]["run"]:
        yield f"{'mlflow':<{NAMES}}{data['mlflow']['url']}"
    if "prefect" in data or "mlflow" in data:
        yield f"{'pages':<{NAMES}}llmill ui"
