"""Prefect: the flow run, its tasks, artifacts, and the temporary server. The only module that wraps the flows.

Prefect displays, retries and will schedule; the store decides what is true. Each stage is one directly called task
(never submitted: cancellation must reach it), so that the picture of a flow run is the pipeline.
"""

import atexit
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.plan import PlannedStage
from flows.recipe import Recipe
from flows.text import about, figure
from storage.addresses import check_form, no_answer, without_credentials
from storage.errors import ConfigError, LlmillError, StoreError, refusal
from storage.files import locked, read_json
from storage.runs import Run
from storage.tracking import Tracker, flat
from tasks.config import StageConfig
from tasks.engine import Builder, Listener, ReachedTarget, StageResult
from tasks.stage import Output, Stage
from tasks.workspace import Progress

VARIABLE = "PREFECT_API_URL"
UI_PORT = 4200
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
START_SECONDS = 120.0  # two runs that start at once on a busy machine need this much
PROGRESS_SECONDS = 3.0
SERVER_BYTES = 16 * 2**20  # free on the disk of the home: the databases of Prefect and MLflow begin with 3 MB


def prefect_environment(home: Path) -> None:
    """Set what Prefect reads at its first import: everything under the home, no analytics, the user's address kept.

    The user's profiles stay in force (they may hold the address and key of a server), but nothing is written there.
    """
    users = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or users / "profiles.toml")
    if profiles.is_file():
        os.environ["PREFECT_PROFILES_PATH"] = str(profiles)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ.setdefault(CONSOLE_LEVEL, "CRITICAL")  # its console lines repeat ours; the log in the UI stays


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server in reach. `pages` is where its UI is, or will be once `llmill ui` runs."""

    api: str
    pages: str

    def close_dead(self, flow_runs: Sequence[str]) -> None:
        """Mark the flow runs of dead processes as crashed."""
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound
        from prefect.states import Crashed

        with get_client(sync_client=True) as client:
            for flow_run in flow_runs:
                try:
                    state = client.read_flow_run(UUID(flow_run)).state
                except ObjectNotFound:
                    continue
                if state is None or not state.is_final():
                    crashed: Any = Crashed(message="The process of this run is gone.")
                    client.set_flow_run_state(UUID(flow_run), crashed, force=True)


@contextmanager
def prefect_server(home: Path) -> Iterator[Server]:
    """The server that the user has set, or the one that `llmill ui` runs on this home, or a temporary one."""
    prefect_environment(home)
    if os.environ.get(VARIABLE):
        check_form(VARIABLE, os.environ[VARIABLE], ("http", "https"))  # Prefect's import fails on what is none
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = PREFECT_API_URL.value()
    if address:
        silence = no_answer(address)
        if silence:
            raise ConfigError(
                f"{VARIABLE} (of the environment or of a Prefect profile): {silence}. "
                "Start the server, unset the address to use a temporary one, or run with --plain"
            )
        yield Server(address, without_credentials(address.removesuffix("/api")))
        return
    running = running_server(home)
    if running is not None:
        with temporary_settings({PREFECT_API_URL: f"{running}/api"}):
            yield Server(f"{running}/api", running)
        return
    url = temporary_server(home)
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        yield Server(f"{url}/api", f"http://127.0.0.1:{UI_PORT}")


def temporary_server(home: Path) -> str:
    """Run a Prefect server on the home's database for as long as this process lives; returns its address.

    It is stopped at exit, after Prefect's threads have sent their last logs and events: without a server they would
    try for more than a minute. However this process dies, the server dies with it.
    """
    if shutil.disk_usage(home).free < SERVER_BYTES:  # it would not say so, but try for two minutes
        raise refusal(OSError(errno.ENOSPC, ""), home) or StoreError(f"{home}: full")
    with locked(home / "prefect" / "start.lock"):  # two servers must not migrate one new database at once
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = home / "prefect" / "server.log"
        process = start_server(home, port, log, pages=False)
        atexit.register(stop, process)
        wait_healthy(f"{url}/api/health", process, log, START_SECONDS)
    return url


def start_server(home: Path, port: int, log: Path, *, pages: bool) -> "subprocess.Popen[bytes]":
    """Start a Prefect server as a child that ends itself when this process is gone."""
    environment = {**os.environ, "PREFECT_UI_ENABLED": "1" if pages else "0", "PYTHONSAFEPATH": "1"}
    environment["PREFECT_UI_API_URL"] = f"http://127.0.0.1:{port}/api"
    for name in ("PREFECT_API_URL", CONSOLE_LEVEL):
        environment.pop(name, None)
    if not pages:
        environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    application = ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    return start_child([*application, "--port", str(port), "--log-level", "warning"], log, environment)


def start_child(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Run `python -m ARGUMENTS` in its own process group, dying with this process; output goes to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "storage.processes", str(os.getpid()), *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float) -> None:
    """Wait until a server answers; raises StoreError with the end of its log where it does not."""
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    raise StoreError(f"the server at {url} did not start within {seconds:.0f} s. End of {log}:\n{tail}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a child, kindly at first."""
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_file(home: Path) -> Path:
    """Where `llmill ui` says which address it serves."""
    return home / "prefect" / "ui.json"


def running_server(home: Path) -> str | None:
    """The address of the server that `llmill ui` runs on this home, if it answers."""
    import httpx

    address = (read_json(server_file(home)) or {}).get("prefect")
    if not address:
        return None
    try:
        return address if httpx.get(f"{address}/api/health", timeout=2.0).status_code == 200 else None
    except httpx.HTTPError:
        return None


class PrefectRun(Listener):
    """One flow run: an engine that wraps each stage call of a builder in a task, and shows what happens in it."""

    def __init__(self, server: Server, builder: Builder, run: Run, tracker: Tracker) -> None:
        self.server, self.builder, self.run, self.tracker = server, builder, run, tracker
        self._bars: dict[str, tuple[UUID, float]] = {}
        builder.listeners = [*builder.listeners, self]

    def execute(self, recipe: Recipe, plan: Sequence[PlannedStage], walk: Callable[[Any], None]) -> None:
        """Run `walk(engine)` as a flow run; an error of a stage passes through as it is."""
        from prefect import flow
        from prefect.runtime import flow_run

        errors: list[BaseException] = []

        def pipeline(recipe: dict[str, Any]) -> Any:
            from prefect.states import Completed, Failed

            self._note_flow_run(str(flow_run.id))
            self._show_plan(plan)
            try:
                walk(self)
            except LlmillError as error:
                errors.append(error)
                return Failed(message=str(error))
            except BaseException as error:
                errors.append(error)
                raise
            return Completed(message=f"{len(self.builder.results)} stages")

        wrapped = flow(name="llmill", flow_run_name=self.run.name, persist_result=False, validate_parameters=False)
        with _telling(errors):
            state: Any = wrapped(pipeline)(recipe.model_dump(mode="json"), return_state=True)
        if not state.is_completed():
            raise RuntimeError(f"Prefect: the flow run ended as {state.name}: {state.message}")

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        """The stage as a Prefect task: retried after transient errors, `Cached` when reused."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.states import Completed, Failed
        from prefect.tasks import exponential_backoff

        outputs: list[Output] = []
        errors: list[BaseException] = []
        targets: list[ReachedTarget] = []

        def body() -> Any:
            errors.clear()
            try:
                outputs.append(self.builder.call(stage, config, inputs))
            except ReachedTarget as target:  # the stage itself is done
                targets.append(target)
            except LlmillError as error:  # the user's to mend: no retry, no traceback
                errors.append(error)
                return Failed(message=str(error))
            except Exception as error:
                errors.append(error)
                raise
            result = self.builder.results[-1]
            name = "Cached" if result.outcome == "reused" else None
            return Completed(name=name, message="; ".join(result.why))

        execution = self.builder.execution
        wrapped = task(
            name=stage.name,
            task_run_name=stage.name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=execution.retries,
            retry_delay_seconds=exponential_backoff(execution.retry_delay_seconds),
            retry_jitter_factor=0.5,
            retry_condition_fn=lambda task, task_run, state: bool(errors) and is_transient(errors[-1]),
        )(body)
        with _telling(errors):
            wrapped(return_state=True)
        for raised in targets:
            raise raised
        return outputs[-1]

    # What is shown ----------------------------------------------------------------------------------------------

    def _note_flow_run(self, flow_run: str) -> None:
        url = f"{self.server.pages}/runs/flow-run/{flow_run}"
        self.run.data["prefect"] = {"flow_run": flow_run, "url": url}
        self.run.save()
        self.tracker.tag("llmill.prefect_flow_run", flow_run)
        self.tracker.tag("mlflow.note.content", f"[Prefect run]({url})")

    def _show_plan(self, plan: Sequence[PlannedStage]) -> None:
        from prefect.artifacts import create_link_artifact, create_markdown_artifact

        rows = ["| stage | will | about | why |", "|---|---|---|---|"]
        for line in plan:
            why = "<br>".join(reason.replace("|", "\\|") for reason in line.decision.why)
            rows.append(f"| {line.stage} | {line.decision.will} | {about(line.estimate)} | {why} |")
        self._safely(
            lambda: create_markdown_artifact("\n".join(rows), key="plan", description=f"Plan of {self.run.name}")
        )
        self._safely(lambda: create_link_artifact(self.tracker.url(), "MLflow run", key="mlflow"))

    def show_report(self, report: Path) -> None:
        """The key figures as an artifact of the flow run, which has ended, and where the whole report is."""
        from flows.report.summary import markdown_summary

        def show() -> None:
            from prefect.client.orchestration import get_client
            from prefect.client.schemas.actions import ArtifactCreate

            page = self.tracker.url(artifact="report.html") if self.tracker.run_id else None
            artifact: Any = ArtifactCreate(
                key="report",
                type="markdown",
                description=f"Report of {self.run.name}",
                data=markdown_summary(self.builder.store, self.run.data, report, page),
                flow_run_id=UUID(self.run.data["prefect"]["flow_run"]),
            )
            with get_client(sync_client=True) as client:
                client.create_artifact(artifact)

        if "prefect" in self.run.data:
            self._safely(show)

    def progressed(self, stage: str, progress: Progress) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

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

    def finished(self, result: StageResult) -> None:
        from prefect.artifacts import create_table_artifact

        rows = [{"figure": "outcome", "value": result.outcome}, {"figure": "why", "value": "; ".join(result.why)}]
        rows.append({"figure": "seconds", "value": f"{result.seconds:.1f}"})
        if result.artifact is not None:
            rows.append({"figure": "artifact", "value": result.artifact.digest[:16]})
        rows += [
            {"figure": name.replace("_", " "), "value": figure(value)} for name, value in flat(result.summary).items()
        ]
        self._safely(lambda: create_table_artifact(rows, key=result.stage, description=f"What {result.stage} did"))

    def _safely(self, show: Callable[[], Any]) -> Any:
        """What is only shown never fails a run."""
        try:
            return show()
        except Exception as error:
            self.run.data.setdefault("warnings", []).append(
                f"Prefect: not shown: {type(error).__name__}: {error}"[:300]
            )
            return None


@contextmanager
def _telling(errors: Sequence[BaseException]) -> Iterator[None]:
    """The first of our own errors is the one to tell: where the disk is full, Prefect fails to record it too."""
    try:
        yield
    except Exception as error:
        if not errors:
            raise
        raise errors[0] from error
    if errors:
        raise errors[0]


def is_transient(error: BaseException) -> bool:
    """Whether a retry can cure an error: the network, a busy database; never data, config or code."""
    return isinstance(error, (ConnectionError, TimeoutError))
