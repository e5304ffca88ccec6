"""MLflow: a parent run for each run, a nested run for each built stage.

`mlflow` is imported when a tracker is made, never before: it costs seconds. Metrics are buffered and sent in
batches (one call for a hundred values costs what one call for one value costs). A tracking server that fails
does not fail the run: what could not be sent waits in an outbox (outbox.py), with the time at which it happened, and
what is left there at the end is counted and reported. Each record is one call, so that none is made twice.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flows.mlflow.aliases import disagreements, mirror
from flows.mlflow.moved import HOME_TAG
from flows.mlflow.outbox import Outbox
from flows.mlflow.place import (
    EXPERIMENT,
    TRAINING_VIEW,
    UI_VARIABLE,
    VARIABLE,
    artifact_root,
    is_own,
    prepare_database,
    silence_mlflow,
    tracking_uri,
)
from flows.mlflow.registry import Model, register
from storage.addresses import no_answer, redacted, without_credentials
from storage.canonical import flat
from storage.errors import ConfigError
from storage.files import read_json
from storage.home import ui_file
from storage.store.artifacts import Part

# What kind of experiment it is, in the words of MLflow's UI; which view it opens is up to the link (TRAINING_VIEW).
KIND = {"mlflow.experimentKind": "custom_model_development"}
DEFAULT_PORT = 5000
PARENT_TAG = "mlflow.parentRunId"  # of a nested run
FLUSH_SECONDS = 5.0
MAX_PARAMETER_CHARACTERS = 500
BATCH = 100  # parameters in one call: the server's limit
METRICS = 1000  # in one call: the server's limit
_NOT_IN_A_NAME = re.compile(r"[^\w. /-]", re.ASCII)
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DataSet:
    """Data as MLflow records them: a name, a digest, where they are."""

    name: str
    digest: str
    address: str


def data_set(part: Part) -> DataSet:
    """A part of an artifact as a data set: `filter-documents`."""
    return DataSet(f"{part.path.parent.parent.name}-{part.name}", part.digest, part.path.as_uri())


def accepted_name(name: str) -> str:
    """A name that MLflow accepts for a parameter or metric: letters of other scripts by their code points."""
    return _NOT_IN_A_NAME.sub(lambda found: "_" if found[0].isascii() else f"_{ord(found[0]):x}", name)


class Tracker:
    """Records one run in MLflow. Every method is safe to call when the server is gone."""

    def __init__(self, home: Path, run: str, recipe: Mapping[str, Any], unreachable: str | None = None) -> None:
        """`unreachable` says why nobody answers at the address so far."""
        silence_mlflow()
        import mlflow
        from mlflow.exceptions import MlflowException

        self.uri = tracking_uri(home)
        prepare_database(home)
        mlflow.set_tracking_uri(self.uri)  # a model version's source is found through the global address
        try:
            self._client = mlflow.MlflowClient(self.uri)
        except MlflowException as error:
            raise ConfigError(
                f"{VARIABLE}={redacted(self.uri)}: MLflow cannot use it ({redacted(error.message)[:300]}). "
                "Correct or unset it"
            ) from error
        self._home, self._run_name, self._recipe = home, run, recipe
        self._outbox = Outbox(unreachable, lambda: no_answer(self.uri))
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.stages: dict[str, str] = {}
        self.restored: str | None = None  # a notice, where the experiment had been deleted
        self._model_id: str | None = None  # the logged model that this run has made
        self._buffer: list[Any] = []
        self._curves: dict[str, set[str]] = {}  # names with points of a chart, by stage
        self._flushed = time.monotonic()

    @property
    def failures(self) -> list[str]:
        """A line for each record that MLflow has refused or not received so far."""
        return self._outbox.failures

    @property
    def unsent(self) -> int:
        """Records that still wait for the server."""
        return len(self._outbox)

    def start(self, settings: Mapping[str, str] = NOTHING, tags: Mapping[str, str] = NOTHING) -> None:
        """Open the parent run, with the settings that runs are compared by, at most 100."""
        from mlflow.entities import Param

        self._safely(partial(self._start, _now(), dict(tags)))
        parameters = [Param(name, value[:MAX_PARAMETER_CHARACTERS]) for name, value in settings.items()]
        if parameters:
            self._safely(lambda: self._client.log_batch(self._parent(), params=parameters))
        self._safely(lambda: self._client.log_dict(self._parent(), dict(self._recipe), "recipe.json"))

    def _start(self, begun: int, tags: dict[str, str]) -> None:
        self.experiment_id = self._experiment()
        tags |= {"llmill.run": self._run_name, "llmill.recipe": str(self._recipe.get("name", ""))}
        run = self._client.create_run(self.experiment_id, begun, tags, self._run_name)
        self.run_id = run.info.run_id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return self._client.create_experiment(EXPERIMENT, artifact_root(self._home), self._experiment_tags())
            except MlflowException:  # another run was faster
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":  # in MLflow's UI: nothing could be recorded in it
            try:
                self._client.restore_experiment(found.experiment_id)
            except MlflowException:  # another run was faster, or we may not
                if self._client.get_experiment(found.experiment_id).lifecycle_stage == "deleted":
                    raise
            self.restored = f"MLflow: its experiment {EXPERIMENT!r} had been deleted, with its runs; it is restored"
        for name, value in KIND.items():
            if name not in found.tags:  # made before we said so
                self._client.set_experiment_tag(found.experiment_id, name, value)
        return found.experiment_id

    def _experiment_tags(self) -> dict[str, str]:
        return KIND | ({HOME_TAG: self._home.as_uri()} if is_own(self._home) else {})

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the parent run; `mlflow.note.content` is the Markdown that its page shows."""
        self._safely(lambda: self._client.set_tag(self._parent(), name, value))

    def use(self, data: Sequence[DataSet], context: str) -> None:
        """Note data sets as inputs of the parent run."""
        self._safely(lambda: self._log_datasets(self._parent(), data, context))

    def set_figures(self, figures: Mapping[str, float]) -> None:
        """Set figures of the parent run, and of the model that it has registered."""
        from mlflow.entities import Metric

        now = _now()
        metrics = [Metric(name, float(one), now, 0, model_id=self._model_id) for name, one in figures.items()]
        if metrics:
            self._safely(lambda: self._client.log_batch(self._parent(), metrics=metrics))

    def log_page(self, path: Path, name: str) -> None:
        """Keep a text file as an artifact of the parent run."""
        self._safely(lambda: self._client.log_text(self._parent(), path.read_text(encoding="utf-8"), name))

    def start_stage(self, stage: str, config: Mapping[str, Any], why: Sequence[str], reads: Sequence[Part]) -> None:
        """Open the nested run of a stage that is about to be built."""
        from mlflow.entities import Param

        self._safely(partial(self._start_stage, stage, "; ".join(why)[:5000], _now()))
        parameters = [
            Param(accepted_name(name), str(value)[:MAX_PARAMETER_CHARACTERS]) for name, value in flat(config).items()
        ]
        for first in range(0, len(parameters), BATCH):
            chunk = parameters[first : first + BATCH]
            self._of_stage(stage, partial(self._client.log_batch, params=chunk))
        self._of_stage(stage, lambda run_id: self._log_datasets(run_id, [data_set(part) for part in reads], "input"))

    def _start_stage(self, stage: str, why: str, begun: int) -> None:
        self.stages.pop(stage, None)  # of an attempt before this one
        if self.experiment_id is not None:
            tags = {PARENT_TAG: self._parent(), "llmill.stage": stage, "llmill.why": why}
            self.stages[stage] = self._client.create_run(self.experiment_id, begun, tags, stage).info.run_id

    def measure(self, stage: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Buffer rows of `{"step": n, name: value}` for a stage's charts."""
        self._keep(rows)
        self._curves.setdefault(stage, set()).update(*rows)
        due = time.monotonic() - self._flushed > FLUSH_SECONDS
        if due and (not self.unsent or len(self._buffer) >= METRICS):
            self._flush(stage)
        elif due:
            self._outbox.deliver()

    def _keep(self, rows: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = _now()
        self._buffer += [
            Metric(name, float(value), now, int(row.get("step", 0)))
            for row in rows
            for name, value in row.items()
            if name != "step" and isinstance(value, (int, float))
        ]

    def _flush(self, stage: str) -> None:
        buffer, self._buffer, self._flushed = self._buffer, [], time.monotonic()
        for first in range(0, len(buffer), METRICS):
            self._of_stage(stage, partial(self._client.log_batch, metrics=buffer[first : first + METRICS]))

    def finish_stage(self, stage: str, outcome: str, summary: Mapping[str, Any], parts: Sequence[Part]) -> None:
        """Close a stage's nested run with its figures and the data sets it made; one that was reused has none.

        A figure with the name of a chart is not one of its points (a mean over held-out text, say): it is `final_NAME`.
        """
        if outcome == "reused":
            return
        curves = self._curves.pop(stage, set())
        figures = {name: value for name, value in flat(summary).items() if _is_number(value)}
        self._keep([{f"final_{name}" if name in curves else name: value for name, value in figures.items()}])
        self._flush(stage)
        status, ended = "FINISHED" if outcome == "built" else "FAILED", _now()
        self._of_stage(stage, lambda run_id: self._log_datasets(run_id, [data_set(part) for part in parts], "output"))
        self._of_stage(stage, lambda run_id: self._client.log_dict(run_id, dict(summary), "summary.json"))
        self._of_stage(stage, lambda run_id: self._client.set_terminated(run_id, status, ended))

    def _of_stage(self, stage: str, action: Callable[[str], Any]) -> None:
        """An action on the nested run of a stage, skipped where that could not be opened."""
        self._safely(lambda: action(self.stages[stage]) if stage in self.stages else None)

    def _log_datasets(self, run_id: str, data: Sequence[DataSet], context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one.name, one.digest[:16], "local", json.dumps({"uri": one.address})),
                [InputTag("mlflow.data.context", context)],
            )
            for one in data
        ]
        if inputs:
            self._client.log_inputs(run_id, datasets=inputs)

    def register(self, model: Model) -> str | None:
        """Register a release as a model version, once for each digest; returns the version."""
        return self._safely(lambda: self._register(model))

    def _register(self, model: Model) -> str:
        self.experiment_id = self.experiment_id or self._experiment()
        runs = [run for run in (self.run_id, self.stages.get("release")) if run]
        link = not self.uri.startswith("http")
        found = register(self._client, self.experiment_id, model, runs, self._run_name, link=link)
        self._model_id = found.model_id or self._model_id
        return found.version

    def disagreements(self, wanted: Mapping[str, tuple[str, str]], aliases: tuple[str, ...]) -> list[str]:
        """Where MLflow's aliases say something else than the store (flows/mlflow/aliases.py)."""
        return self._safely(lambda: disagreements(self._client, wanted, aliases)) or []

    def mirror(self, wanted: Mapping[str, tuple[str, str]], aliases: tuple[str, ...]) -> list[str]:
        """Set the aliases as the store has them; returns what could not be set."""
        return self._safely(lambda: mirror(self._client, wanted, aliases)) or []

    def finish(self, status: str) -> None:
        """Close the parent run."""
        self.tag("llmill.status", status)
        final, ended = _final(status), _now()
        self._safely(lambda: self._client.set_terminated(self._parent(), final, ended))
        self._outbox.deliver(now=True)

    def close(self, run_ids: Sequence[str], status: str) -> bool:
        """End what an earlier run left open, as that run ended; returns whether nothing of it is open any more."""
        closed = [self._safely(partial(self._close, run_id, status)) for run_id in run_ids]
        return all(closed)

    def _close(self, run_id: str, status: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id, _final(status))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was opened at another address, or deleted
                raise
        return True

    def _parent(self) -> str:
        if self.run_id is None:
            raise RuntimeError("the parent run could not be opened")
        return self.run_id

    def url(self, run_id: str | None = None, artifact: str | None = None) -> str:
        """The page of a run, or of its artifact, in the mode that shows training; as `llmill ui` serves it."""
        ui = (read_json(ui_file(self._home)) or {}).get("mlflow", f"http://127.0.0.1:{DEFAULT_PORT}")
        base = os.environ.get(UI_VARIABLE) or (self.uri if self.uri.startswith("http") else ui)
        path = f"#/experiments/{self.experiment_id}/runs/{run_id or self.run_id}"
        path += f"/artifacts/{artifact}" if artifact else ""
        path += TRAINING_VIEW
        return f"{without_credentials(base).rstrip('/')}/{path}"

    def _safely(self, action: Callable[[], Any]) -> Any:
        """The result of a record for the server, None where it is kept for later or was refused."""
        return self._outbox.send(action)


def _now() -> int:
    """Milliseconds, as MLflow counts them."""
    return int(time.time() * 1000)


def _final(status: str) -> str:
    """MLflow's word for how a run ended."""
    return {"completed": "FINISHED", "failed": "FAILED"}.get(status, "KILLED")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
