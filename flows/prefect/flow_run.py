"""Prefect: a run as a flow run, its stages as tasks, and what is shown of them.

Prefect displays, retries and schedules (deployed.py); the store decides what is true. Each stage is one directly called
task (never submitted: cancellation must reach it), so that the picture of a flow run is the pipeline.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.build import Recipe
from flows.champion.verdict import verdict_sentence
from flows.mlflow.tracker import Tracker
from flows.plan import PlannedStage
from flows.prefect.servers import TAG, Server
from flows.terminal.plan_text import about
from flows.terminal.reasons import reasons_text
from flows.wording import effort, progress_text
from storage.addresses import redacted
from storage.canonical import flat
from storage.errors import LlmillError, StoreError
from storage.runs import Run, attempts_of
from storage.store.artifacts import Artifact
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.listener import Listener, StageResult
from tasks.engine.meter import Progress
from tasks.engine.planner import ReachedTarget
from tasks.engine.stage import Output, Stage
from tasks.notices import notices_of, without_notices
from tasks.wording import figure

PROGRESS_SECONDS = 3.0
LOG_SECONDS = 15.0  # between two lines of progress of a stage in the log of a run; the first comes at once
QUIET_SECONDS = 120.0  # after a failure nothing is shown for so long


class PrefectRun(Listener):
    """One flow run: an engine that wraps each stage call of a builder in a task, and shows what happens in it."""

    def __init__(self, server: Server, builder: Builder, run: Run, tracker: Tracker, *, nested: bool = False) -> None:
        """`nested`: a flow run of its own within that of another run, a subflow."""
        self.server, self.builder, self.run, self.tracker = server, builder, run, tracker
        self.nested = nested
        self.failures: list[str] = []  # to show something
        self._quiet_until = 0.0
        self._bars: dict[str, tuple[UUID, float]] = {}
        self._logged: dict[str, float] = {}
        self._states: dict[str, Any] = {}  # of the stages that have ended, by the digest of what they made
        builder.listen(self)

    def execute(self, recipe: Recipe, plan: Sequence[PlannedStage], walk: Callable[[Any], None]) -> None:
        """Run `walk(engine)` as a flow run; an error of a stage passes through as it is.

        In a process that a worker has started for a flow run, that flow run is the one, unless this run is nested.
        """
        from prefect import flow, tags
        from prefect.context import FlowRunContext

        if FlowRunContext.get() is not None and not self.nested:
            self._begin(plan)
            walk(self)
            return
        errors: list[BaseException] = []
        walked: list[bool] = []  # to its end: what fails after that is only reported

        def pipeline(recipe: dict[str, Any]) -> Any:
            from prefect.states import Completed, Failed

            self._begin(plan)
            try:
                walk(self)
                walked.append(True)
            except LlmillError as error:
                errors.append(error)
                return Failed(message=str(error))
            except BaseException as error:
                errors.append(error)
                raise
            verdict = self.run.data.get("verdict")
            return Completed(message=verdict_sentence(verdict) if verdict else f"{len(self.builder.results)} stages")

        wrapped = flow(name="llmill", flow_run_name=self.run.name, persist_result=False, validate_parameters=False)
        try:
            with _raise_first(errors, self.server), tags(TAG):
                state: Any = wrapped(pipeline)(recipe.model_dump(mode="json"), return_state=True)
        except StoreError as lost:
            if not walked:
                raise
            self.failures.append(f"the end of the run: {lost}")
            return
        if not state.is_completed():
            raise RuntimeError(f"Prefect: the flow run ended as {state.name}: {state.message}")

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        """The stage as a Prefect task: retried after transient errors, `Cached` when reused."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.states import Completed, Failed

        outputs: list[Output] = []
        errors: list[BaseException] = []
        targets: list[ReachedTarget] = []

        def body() -> Any:
            errors.clear()
            try:
                outputs.append(self.builder.attempt(stage, config, inputs))
            except ReachedTarget as target:  # the stage itself is done
                targets.append(target)
            except LlmillError as error:  # the user's to fix: no retry, no traceback
                errors.append(error)
                return Failed(message=str(error))
            except Exception as error:
                errors.append(error)
                raise
            result = self.builder.results[-1]
            name = "Cached" if result.outcome == "reused" else None
            return Completed(name=name, message="; ".join((*result.why, *effort(result))))

        waits = self.builder.waits(stage.name)
        wrapped = task(
            name=stage.name,
            task_run_name=stage.name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=len(waits),
            retry_delay_seconds=waits or 0,
            retry_condition_fn=lambda task, task_run, state: self.builder.retry is not None,
        )(body)
        before = [self._states[name] for name in dict.fromkeys(map(_name, inputs.values())) if name in self._states]
        with _raise_first(errors, self.server):
            state = wrapped(return_state=True, wait_for=before)  # all have ended: it draws the edges of the graph
        for raised in targets:
            raise raised
        self._states[_name(outputs[-1])] = state
        return outputs[-1]

    # What is shown ----------------------------------------------------------------------------------------------

    def _begin(self, plan: Sequence[PlannedStage]) -> None:
        """Tie run file, flow run and MLflow run to each other, and show the plan."""
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        identity, deployment = str(context.flow_run.id), context.flow_run.deployment_id
        url = f"{self.server.ui}/runs/flow-run/{identity}"
        self.run.data["prefect"] = {"flow_run": identity, "url": url, "deployment": str(deployment or "") or None}
        self.run.save()
        if deployment:
            first = not attempts_of(self.builder.store.home, identity)[:-1]
            if first and is_made_up(context.flow_run.name):
                self._safely(lambda: self.server.rename(identity, self.run.name))
            else:  # what somebody has typed is kept, and a retry keeps the first attempt's name
                names = [*context.flow_run.tags, self.run.name]
                self._safely(lambda: self.server.tag(identity, names))
        self.tracker.tag("llmill.prefect_flow_run", identity)
        self.tracker.tag("mlflow.note.content", f"[Prefect run]({url})")
        self._show_plan(plan)

    def _show_plan(self, plan: Sequence[PlannedStage]) -> None:
        from prefect.artifacts import create_link_artifact, create_markdown_artifact

        rows = ["| stage | will | about | why |", "|---|---|---|---|"]
        for line in plan:
            why = reasons_text(line.decision, line.definition.about).replace("|", "\\|")
            rows.append(f"| {line.stage} | {line.decision.will} | {about(line.estimate)} | {why} |")
        self._safely(
            lambda: create_markdown_artifact("\n".join(rows), key="plan", description=f"Plan of {self.run.name}")
        )
        self._safely(lambda: create_link_artifact(self.tracker.url(), "MLflow run", key="mlflow"))

    def show_report(self, report: Path) -> None:
        """The key figures as an artifact of the flow run, which has ended, and where the whole report is."""
        from flows.report.summary import markdown_summary

        def show() -> None:
            from prefect.client.schemas.actions import ArtifactCreate

            page = self.tracker.url(artifact="report.html") if self.tracker.run_id else None
            artifact: Any = ArtifactCreate(
                key="report",
                type="markdown",
                description=f"Report of {self.run.name}",
                data=markdown_summary(self.builder.store, self.run.data, report, page),
                flow_run_id=UUID(self.run.data["prefect"]["flow_run"]),
            )
            with self.server.client() as client:
                client.create_artifact(artifact)

        if "prefect" in self.run.data:
            self._safely(show)

    def record_verdict(self) -> None:
        """Emit how a retraining ended, an event that automations can wait for: `llmill.retraining.promoted`."""
        from prefect.events import emit_event

        verdict = self.run.data.get("verdict")
        if verdict is not None and "prefect" in self.run.data:
            flow_run = {"prefect.resource.id": f"prefect.flow-run.{self.run.data['prefect']['flow_run']}"}
            self._safely(
                lambda: emit_event(
                    f"llmill.retraining.{verdict['decision']}",
                    {"prefect.resource.id": f"llmill.run.{self.run.name}", "prefect.resource.name": self.run.name},
                    related=[{**flow_run, "prefect.resource.role": "flow-run"}],
                    payload={"verdict": verdict_sentence(verdict)},
                )
            )

    def _record_asset(self, result: StageResult) -> None:
        """Lineage as Prefect's assets have it: an asset for each stage of a recipe, made from those that it read."""
        from prefect.events import emit_event

        def asset(stage: str) -> dict[str, str]:
            return {"prefect.resource.id": f"llmill://{self.run.data['recipe_name']}/{stage}"}

        artifact = result.artifact
        assert artifact is not None and result.record is not None
        read = dict.fromkeys(name.partition("/")[0] for name in result.record["identity"]["inputs"])
        self._safely(
            lambda: emit_event(
                "prefect.asset.materialization.succeeded",
                asset(result.stage) | {"prefect.resource.name": result.stage},
                related=[asset(stage) | {"prefect.resource.role": "asset"} for stage in read],
                payload={"digest": artifact.digest, "run": self.run.name},
            )
        )

    def progressed(self, stage: str, progress: Progress) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.logging import get_run_logger

        percent = 100.0 * progress.done / progress.total if progress.total else 0.0
        now = time.monotonic()
        if stage not in self._bars:
            made = self._safely(lambda: create_progress_artifact(percent, key=f"{stage}-progress", description=stage))
            if made is not None:
                self._bars[stage] = made, now
        elif now - self._bars[stage][1] > PROGRESS_SECONDS or progress.done == progress.total:
            bar = self._bars[stage][0]
            self._bars[stage] = bar, now
            self._safely(lambda: update_progress_artifact(bar, percent))
        if now - self._logged.get(stage, -math.inf) > LOG_SECONDS:
            self._logged[stage] = now
            self._safely(lambda: get_run_logger().info(progress_text(progress)))

    def finished(self, result: StageResult) -> None:
        from prefect.artifacts import create_table_artifact, update_progress_artifact

        if result.stage in self._bars and result.outcome == "built":
            self._safely(lambda: update_progress_artifact(self._bars[result.stage][0], 100.0))
        if result.outcome == "built":
            self._record_asset(result)

        rows = [{"figure": "outcome", "value": result.outcome}, {"figure": "why", "value": "; ".join(result.why)}]
        rows.append({"figure": "seconds", "value": figure(round(result.seconds, 1))})
        rows += [{"figure": "effort", "value": fact} for fact in effort(result)]
        if result.artifact is not None:
            rows.append({"figure": "artifact", "value": result.artifact.digest[:16]})
        rows += [
            {"figure": name.replace("_", " "), "value": figure(value)}
            for name, value in flat(without_notices(result.summary)).items()
        ]
        rows += [{"figure": "notice", "value": notice} for notice in notices_of(result.summary)]
        self._safely(lambda: create_table_artifact(rows, key=result.stage, description=f"What {result.stage} did"))

    def _safely(self, show: Callable[[], Any]) -> Any:
        """Show something without failing the run; after a failure (its client tried for half a minute) wait a while."""
        if time.monotonic() < self._quiet_until:
            return None
        try:
            return show()
        except Exception as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            self.failures.append(redacted(f"{type(error).__name__}: {error}".splitlines()[0])[:200])
            return None


def is_made_up(name: str) -> bool:
    """Whether Prefect has made up the name of a flow run: two words of the lists that it draws from."""
    from coolname.data import config

    lists: Any = config
    known = {word for words in lists.values() for word in words.get("words", ())}
    return all(word in known for word in name.split("-"))


def _name(output: Output) -> str:
    """What tells outputs of a stage apart: a kind may be built twice in a run."""
    return output.digest if isinstance(output, Artifact) else ""


@contextmanager
def _raise_first(errors: Sequence[BaseException], server: Server) -> Iterator[None]:
    """Raise the first of our own errors: where the disk is full, Prefect fails to record it too.

    Without one of our own it may be the server that is gone, or its database.
    """
    try:
        yield
    except Exception as error:
        if errors:
            raise errors[0] from error
        lost = server.failure(error)
        if lost is None:
            raise
        raise lost from error
    if errors:
        raise errors[0]
