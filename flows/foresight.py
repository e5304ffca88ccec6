"""Checks, before a training is paid for, whether the stages after it have what they need (tasks/needs.py).

A listener, not a stage: nothing that is made depends on it, so it has no key and costs nothing where the base model is
reused.
"""

from contextlib import suppress

from flows.build import Recipe
from flows.pipeline import Pipeline
from storage.store.artifacts import Artifact
from storage.store.local import DamagedError, Store
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision
from tasks.engine.listener import Listener, StageResult
from tasks.engine.planner import Options
from tasks.engine.stage import Stage

PAID = "pretrain"  # the kind of stage that is checked for


class Foresight(Listener):
    """Raises DataError when the training is about to be built and a stage that the run comes to would fail."""

    def __init__(self, store: Store, recipe: Recipe, options: Options, pipeline: Pipeline) -> None:
        self._store, self._recipe = store, recipe
        names = pipeline.stage_names
        last = names.index(options.to) + 1 if options.to else len(names)
        self._later = names[names.index(PAID) + 1 : last] if PAID in names else ()
        self._there: dict[str, Artifact] = dict(pipeline.given)

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        if stage.kind != PAID or not self._later:
            return
        from tasks.needs import READS, Needs, check_needs

        kinds = {"clean": "filter", "tokenizer": "tokenizer"}
        inputs = {name: self._there[kind].only(READS[name]) for name, kind in kinds.items()}
        with suppress(DamagedError):  # healed when a stage reads it
            for artifact in inputs.values():
                self._store.fetch(artifact)
            recipe = self._recipe
            needs = Needs(recipe.pretrain, recipe.finetune, recipe.evaluate, recipe.release)
            check_needs(needs, self._later, **inputs)

    def finished(self, result: StageResult) -> None:
        if result.artifact is not None:
            self._there[result.artifact.stage] = result.artifact
