"""What the run file says about each stage, kept up to date while the run goes on."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.pipeline import Pipeline
from storage.runs import Run
from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision
from tasks.engine.listener import Listener, StageResult
from tasks.engine.retries import Retry
from tasks.engine.stage import Stage
from tasks.notices import notices_of

SHARD_COUNTS = ("shards_built", "shards_reused", "shards_repeated")


class RunFile(Listener):
    """Keeps the run file up to date while the run goes on."""

    def __init__(self, run: Run, pipeline: Pipeline) -> None:
        self.run, self.pipeline = run, pipeline
        self._done: dict[str, StageResult] = {}

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        self.run.data.setdefault("building", {})[stage.name] = decision.identity.key
        self.run.save()

    def retrying(self, retry: Retry) -> None:
        self.run.data.setdefault("retries", []).append(retry.record())
        self.run.save()

    def finished(self, result: StageResult) -> None:
        self._done[result.stage] = result
        if result.artifact is not None:
            self.run.data.get("building", {}).pop(result.stage, None)
        done, plan = list(self._done.values()), self.run.data["plan"]
        self.run.data["stages"] = report_stages(done, plan, self.pipeline.stage_names)
        self.run.save()


def report_stages(
    results: Sequence[StageResult], plan: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The stages of the `--json` object; those of `names` that the run did not come to are `skipped` after a failure.

    What was built has its estimate beside the seconds that it took.
    """
    planned = {line["stage"]: line["estimate_seconds"] for line in plan}
    rows = [_report_stage(result, planned.get(result.stage)) for result in results]
    if results and results[-1].outcome == "failed":
        met = {result.stage for result in results}
        rows += [
            {"stage": name, "outcome": "skipped", "why": [f"{results[-1].stage} failed"], "seconds": 0.0}
            for name in names
            if name not in met
        ]
    return rows


def _report_stage(result: StageResult, estimate: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "stage": result.stage,
        "outcome": result.outcome,
        "why": list(result.why),
        "seconds": round(result.seconds, 3),
    }
    if result.outcome == "built" and estimate is not None:
        row["estimate_seconds"] = estimate
    if result.outcome in ("built", "failed"):
        row["attempts"] = result.attempts
    if result.record is not None:
        row["key"] = result.record["key"]
        row |= {
            name: result.record[name] for name in SHARD_COUNTS if name in result.record and row["outcome"] == "built"
        }
    if result.artifact is not None:
        row["notices"] = notices_of(result.summary)
        row["artifact"] = describe_artifact(result.artifact, result.summary)
    if result.error is not None:
        row["error"] = result.error
    return row


def describe_artifact(artifact: Artifact, summary: Mapping[str, Any]) -> dict[str, Any]:
    """An artifact as the JSON contract has it."""
    parts = {name: {"digest": part.digest, "uri": part.path.as_uri()} for name, part in artifact.parts.items()}
    return {
        "digest": artifact.digest,
        "uri": f"llmill://{artifact.stage}/{artifact.digest}",
        "parts": parts,
        "summary": dict(summary),
    }
