"""One run: plan, then build what the plan cannot reuse, recorded in the run file, in Prefect and in MLflow."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, TextIO

from flows.build import Recipe, building
from flows.foresight import Foresight
from flows.mlflow.listener import Tracking
from flows.mlflow.place import check_tracking_uri, import_meanwhile
from flows.mlflow.tracker import Tracker
from flows.pipeline import Around, Pipeline
from flows.plan import PlannedStage, all_reused, make_plan
from flows.run_record import RunFile, report_stages
from flows.terminal.ending import ending_lines
from flows.terminal.live import Terminal
from flows.terminal.plan_text import plan_text
from storage.errors import StoppedError, StoreError, exit_status, refusal
from storage.home import prepare_home
from storage.processes import undisturbed
from storage.runs import COMPLETED, FAILED, INTERRUPTED, REUSED, Run, mark_closed, mark_dead_runs
from storage.store.local import Store
from storage.store.shared import open_store
from tasks.engine.builder import Builder, describe
from tasks.engine.listener import StageResult
from tasks.engine.planner import Options
from tasks.engine.stage import Engine
from tasks.train.meeting import meeting

Result = dict[str, Any]
Execute = Callable[..., tuple[Result, BaseException | None]]  # `execute`, or another way to carry out a recipe


def execute(
    recipe: Recipe,
    options: Options,
    out: TextIO,
    *,
    pipeline: Pipeline | None = None,
    plain: bool = False,
    deployed: bool = False,
    within: Around | None = None,
) -> tuple[Result, BaseException | None]:
    """Carry out a run; returns its result (the `--json` object) and the error that ended it, if any.

    A run in which everything can be reused imports neither Prefect nor MLflow. `plain` leaves both out of any run.
    `deployed`: a worker has started this process for a flow run, which shows all stages, those reused too. `within`:
    it belongs to another run of this process. Machines that train with this one hear how the run ended.
    """
    home, chosen = prepare_home(), pipeline or building(recipe)
    with meeting(recipe.execution) as say_over:
        result, error = _execute(home, recipe, options, out, chosen, plain, deployed, within)
        say_over(exit_status(error))
    return result, error


def _execute(
    home: Path,
    recipe: Recipe,
    options: Options,
    out: TextIO,
    pipeline: Pipeline,
    plain: bool,
    deployed: bool,
    within: Around | None,
) -> tuple[Result, BaseException | None]:
    started, store = time.monotonic(), open_store(home)
    error: BaseException | None = None
    calm = ExitStack()
    with ExitStack() as stack, ExitStack() as planning:
        planning.enter_context(store.unswept())
        plan = make_plan(store, recipe, options, pipeline)
        left_open = mark_dead_runs(home)
        run = _begin(home, recipe, options, pipeline, plan)
        told = f"\n\n{plan_text(plan)}" if pipeline.tells_plan else ""
        print(f"run {run.name}{told}\n", file=out, flush=True)

        terminal = Terminal(out)
        listeners = [RunFile(run, pipeline), terminal, Foresight(store, recipe, options, pipeline)]
        builder = Builder(store, recipe.execution, options, listeners, run.name)
        stack.enter_context(builder)
        ending = _Ending(run, builder, pipeline, started)
        try:
            decisions = [(line.definition, line.decision) for line in plan]
            if not deployed and all_reused(plan) and builder.reuse_all(decisions):
                pipeline.at_end(builder.results, run.data)
            else:
                planning.close()  # the builder decides about each stage again
                if plain:
                    _walk(pipeline, recipe, builder, builder, run, Around(builder.listen))
                else:
                    _build_with_tracking(pipeline, recipe, builder, run, plan, left_open, ending, within)
        except BaseException as caught:  # a cancelled flow run too: it has to record how the run ended
            calm.enter_context(undisturbed())  # a second Ctrl-C must not lose what is written down of the first
            error = refusal(caught, home) or caught
        finally:
            terminal.clear()
    with calm:
        report = ending.conclude(error)
        error = _finish(run, store, error)
        for warning in run.data.get("warnings", []):
            print(warning, file=out)
        print("\n".join(ending_lines(run.data, builder.results, pipeline, report, error)), file=out, flush=True)
        names = ("status", "seconds", "stages", "verdict", *pipeline.facts)
        result = {"run": run.name, **{name: run.data[name] for name in names if name in run.data}}
        return result | {"report": str(report) if report else None}, error


def _begin(home: Path, recipe: Recipe, options: Options, pipeline: Pipeline, plan: Sequence[PlannedStage]) -> Run:
    """The run's file, with what is to be done."""
    run = Run(home, recipe.name, recipe.size_name, recipe.model_dump(mode="json"), pipeline.title)
    run.data |= {"pipeline": pipeline.name, "plan": [line.record() for line in plan], **pipeline.facts}
    run.data["options"] = {"to": options.to, "force": sorted(options.force), "keep": sorted(options.keep)}
    run.save()
    return run


def _finish(run: Run, store: Store, error: BaseException | None) -> BaseException | None:
    """Close the run file and share it; returns the error that ended the run, or else the one of closing it."""
    try:
        run.finish(run.data["status"], run.data["seconds"])
    except OSError as caught:  # the disk is full: what was built is published, and the next run closes the run file
        run.data["status"] = run.data["status"] if error else FAILED
        error = error or refusal(caught, run.path) or caught
    try:
        store.share_run(run.path)
    except (StoreError, OSError) as caught:  # what was built is there; only the list of runs lacks this one
        run.data.setdefault("warnings", []).append(f"the run file was not shared: {describe(caught)}")
    return error


class _Ending:
    """How a run ended, worked out once: after its last stage, while Prefect and MLflow can still record it."""

    def __init__(self, run: Run, builder: Builder, pipeline: Pipeline, started: float) -> None:
        self.run, self.builder, self.pipeline, self.started = run, builder, pipeline, started
        self._concluded = False
        self._report: Path | None = None

    def conclude(self, error: BaseException | None) -> Path | None:
        """Note status, time and stages in the run's data and write its report; returns its path."""
        if self._concluded:
            return self._report
        self._concluded = True
        data = self.run.data
        data["stages"] = report_stages(self.builder.results, data["plan"], self.pipeline.stage_names)
        data["status"] = _status(self.builder.results, error)
        data["seconds"] = round(time.monotonic() - self.started, 3)
        if error is not None:
            data["error"] = describe(error)
        try:
            from flows.report.page import write_report

            self._report = write_report(self.builder.store, data)
        except Exception as failure:  # a report never fails its run
            data.setdefault("warnings", []).append(f"report: not written: {describe(failure)}"[:300])
        return self._report


def _walk(pipeline: Pipeline, recipe: Recipe, engine: Engine, builder: Builder, run: Run, around: Around) -> None:
    """Walk the flow under an engine around a builder; at the end what was built is where others see it."""
    pipeline.at_start(around)
    pipeline.walk(recipe, engine)
    builder.finish()
    pipeline.at_end(builder.results, run.data)


def _build_with_tracking(
    pipeline: Pipeline,
    recipe: Recipe,
    builder: Builder,
    run: Run,
    plan: Sequence[PlannedStage],
    left_open: Sequence[dict[str, Any]],
    ending: _Ending,
    within: Around | None,
) -> None:
    """Build inside a Prefect flow run, recorded in MLflow; what an earlier run left open in either is closed.

    `within` another run it is a subflow of that one's flow run, and nested in its run in MLflow.
    """
    from flows.prefect.flow_run import PrefectRun
    from flows.prefect.servers import prefect_server

    home = builder.store.home
    unreachable = check_tracking_uri(home)
    import_meanwhile()
    with nullcontext(within.server) if within else prefect_server(home) as server:
        tracker = Tracker(home, run.name, recipe.model_dump(mode="json"), unreachable)
        for open_run in left_open:
            closed = tracker.close(open_run.get("mlflow", {}).get("runs", []), open_run["status"])
            server.close_dead(home, open_run)
            if closed:
                mark_closed(home, open_run)
        tracking = Tracking(tracker, recipe, run, pipeline)
        tracking.start(within.mlflow_run if within else None)
        builder.listen(tracking)
        prefect_run = PrefectRun(server, builder, run, tracker, nested=within is not None)
        around = Around(builder.listen, server, tracker.run_id)
        error: BaseException | None = None
        try:
            prefect_run.execute(recipe, plan, lambda engine: _walk(pipeline, recipe, engine, builder, run, around))
        except BaseException as caught:
            error = caught
            raise
        finally:
            tracking.register_release(builder.results)
            tracking.record_verdict(builder.store)
            report = ending.conclude(error)
            tracking.record_figures(builder.results)
            if report is not None:
                tracker.log_page(report, "report.html")
                prefect_run.show_report(report)
            prefect_run.record_verdict()
            tracker.finish(run.data["status"] if error is not None else COMPLETED)
            tracking.note()
            if tracker.restored:
                run.data.setdefault("warnings", []).append(tracker.restored)
            for name, failures in (("MLflow", tracker.failures), ("Prefect", prefect_run.failures)):
                if failures:
                    run.data["left_open"] = True  # the next run records there how this one ended
                    run.data.setdefault("warnings", []).append(
                        f"{name}: not everything was recorded ({len(failures)} times): {failures[0]}"
                    )


def _status(results: Sequence[StageResult], error: BaseException | None) -> str:
    if isinstance(error, StoppedError) or (error is not None and not isinstance(error, Exception)):
        return INTERRUPTED
    if error is not None:
        return FAILED
    return REUSED if all(result.outcome == "reused" for result in results) else COMPLETED
