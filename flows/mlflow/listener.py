"""What a run records in MLflow: each stage as it goes, and of the whole run what tells it apart from others."""

import getpass
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.build import Recipe
from flows.champion.verdict import PROMOTING
from flows.inspect.runs import headline
from flows.mlflow.registry import Model, model_text
from flows.mlflow.tracker import PARENT_TAG, DataSet, Tracker, accepted_name, data_set
from flows.pipeline import Pipeline
from storage.addresses import redacted
from storage.canonical import digest_of
from storage.runs import Run
from storage.snapshot import original
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision
from tasks.engine.listener import Listener, StageResult
from tasks.engine.provenance import source_commit
from tasks.engine.retries import Retry
from tasks.engine.stage import Stage
from tasks.evaluate.score import read_scores
from tasks.retrain.config import is_own_figure


class Tracking(Listener):
    """Hands what happens in the builder to MLflow."""

    def __init__(self, tracker: Tracker, recipe: Recipe, run: Run, pipeline: Pipeline) -> None:
        self.tracker, self.recipe, self.run = tracker, recipe, run
        self.pipeline = pipeline
        self._parts: dict[str, Part] = {}  # by digest
        self.note()

    def start(self, parent: str | None = None) -> None:
        """Open the run, with the settings that it was started with; `parent` is the run that it is nested in."""
        tags = origin_tags() | ({PARENT_TAG: parent} if parent else {})
        self.tracker.start(settings(self.recipe, self.run.data, self.pipeline), tags)
        self.note()

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        reads = [self._parts[digest] for digest in decision.identity.inputs.values() if digest in self._parts]
        self.tracker.start_stage(stage.name, config.model_dump(mode="json"), decision.why, reads)
        self.note()

    def measured(self, stage: str, rows: Sequence[Mapping[str, float]]) -> None:
        self.tracker.measure(stage, rows)

    def retrying(self, retry: Retry) -> None:
        self.tracker.finish_stage(retry.stage, "failed", {}, [])  # the next attempt has a nested run of its own

    def finished(self, result: StageResult) -> None:
        parts = list(result.artifact.parts.values()) if result.artifact else []
        self._parts |= {part.digest: part for part in parts}
        self.tracker.finish_stage(result.stage, result.outcome, result.summary, parts)
        if result.outcome == "reused" and result.record:
            built_by = result.record.get("mlflow_run", "another run")
            self.tracker.tag(f"llmill.reused.{result.stage}", f"built by {result.record.get('run')} ({built_by})")
        about = self.pipeline.about(result.stage)
        if about.reads_sources and result.record:
            self.tracker.use(list(_sources(result.record)), "source")
        used = [part for name, part in result.artifact.parts.items() if name in about.data] if result.artifact else []
        if used:
            self.tracker.use([data_set(part) for part in used], "training")

    def provenance(self, stage: str) -> dict[str, Any]:
        return {"mlflow_run": self.tracker.stages.get(stage)}

    def register_release(self, results: Sequence[StageResult]) -> None:
        """Register what was released, with what it was made from."""
        made = (result.artifact.parts.get("release") for result in results if result.artifact)
        part = next((part for part in made if part is not None), None)
        if part is None:
            return
        name = self.recipe.release.name
        made_from = model_text(part, self.run.name, self.recipe.name, headline(self.run.data))
        version = self.tracker.register(Model(name, part, self.recipe.release.description, made_from))
        self.run.data["model"] = {"name": name, "version": version}

    def record_verdict(self, store: Store) -> None:
        """The verdict of a retraining as a tag; MLflow's aliases follow a new champion, else they are compared."""
        from flows.champion.champion import ALIASES
        from flows.mlflow.champion_aliases import wanted_aliases

        if "verdict" not in self.run.data:
            return
        verdict, wanted = self.run.data["verdict"], wanted_aliases(store)
        self.tracker.tag("llmill.verdict", f"{verdict['decision']}: {'; '.join(verdict['reasons'])}")
        check = self.tracker.mirror if verdict["decision"] in PROMOTING else self.tracker.disagreements
        lines = [f"MLflow: {line}; `llmill champion --fix` sets its aliases" for line in check(wanted, ALIASES)]
        self.run.data.setdefault("warnings", []).extend(lines)

    def record_figures(self, results: Sequence[StageResult]) -> None:
        """Set the figures of the whole run; called once the run's data are complete."""
        self.tracker.set_figures(figures(self.run.data, results, self.pipeline))

    def note(self) -> None:
        """Keep in the run file what MLflow has of this run, and how many records it lacks."""
        opened = [run_id for run_id in (self.tracker.run_id, *self.tracker.stages.values()) if run_id]
        recorded = {
            "url": self.tracker.url(),
            "run": self.tracker.run_id,
            "runs": opened,
            "unsent": self.tracker.unsent,
        }
        self.run.data["mlflow"] = recorded
        self.run.save()


# The whole run --------------------------------------------------------------------------------------------------


def settings(recipe: Recipe, data: Mapping[str, Any], pipeline: Pipeline) -> dict[str, str]:
    """The settings that people compare runs by, as text. Without secrets."""
    chosen: dict[str, Any] = {"recipe": recipe.name, "pipeline": data["pipeline"], "to": data["options"]["to"]}
    for stage in pipeline.stages:
        section = getattr(recipe, stage.name, None)  # none of a stage that is called again under another name
        compared = stage.about.compared(section) if section is not None else {}
        chosen |= {f"{stage.name}.{name}": value for name, value in compared.items()}
    return {
        name: redacted(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        for name, value in chosen.items()
        if value is not None
    }


def origin_tags() -> dict[str, str]:
    """Who started what, and of which commit, as MLflow's own clients say it."""
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": sys.argv[0] or "<console>",
        "mlflow.source.type": "LOCAL",
    }
    commit = source_commit(original(Path(__file__).resolve()).parents[2])
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _user() -> str:
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (ImportError, KeyError, OSError):  # a user id without a name
        return "unknown"


def _sources(record: Mapping[str, Any]) -> Iterator[DataSet]:
    """What collect has read, a data set for each source: its digest is that of the digests of its files."""
    observed: dict[str, str] = record["identity"]["observed"]
    for name in sorted({path.partition("/")[0] for path in observed} - {"library"}):
        files = {path: digest for path, digest in observed.items() if path.partition("/")[0] == name}
        yield DataSet(f"source-{name}", digest_of(files), "")


def figures(data: Mapping[str, Any], results: Sequence[StageResult], pipeline: Pipeline) -> dict[str, float]:
    """What a run came to: scores in bits per byte, benchmarks, sizes, seconds."""
    found: dict[str, float] = {f"{name}_bits_per_byte": value for name, value in headline(data).items()}
    for result in results:
        if result.artifact is not None:
            named = pipeline.about(result.stage).headline.items()
            found |= {name: result.summary[figure] for name, figure in named if figure in result.summary}
            is_own = result.stage == result.artifact.stage  # another name: of the champion, to compare with
            found |= _benchmarks(result.artifact) if is_own and "scores" in result.artifact.parts else {}
    return found | {"seconds": data["seconds"]}


def _benchmarks(evaluation: Artifact) -> dict[str, float]:
    return {
        accepted_name(f"{score.figure}/{score.model}"): score.value
        for score in read_scores(evaluation)
        if score.value is not None and not is_own_figure(score.figure)
    }
