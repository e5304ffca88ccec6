"""Checks, before a training is paid for, whether the stages after it would fail.

What a stage checks is its own to say (`About.checks`): its own code, called early on the inputs that are there, so no
rule is written twice. A listener, not a stage: nothing that is made depends on it, so it has no key and costs nothing
where the base model is reused. Cost: about a second for 80,000 pairs; lm-eval's import where the recipe has benchmarks.
"""

from collections.abc import Iterator
from contextlib import suppress

from flows.build import Recipe
from flows.pipeline import Call, Pipeline
from storage.errors import DataError, LlmillError
from storage.store.artifacts import Artifact
from storage.store.local import DamagedError, Store
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision
from tasks.engine.listener import Listener, StageResult
from tasks.engine.planner import Options
from tasks.engine.stage import Stage


class Foresight(Listener):
    """Raises DataError, one line for each fault, when an expensive stage is about to be built and one that the run
    comes to after it would fail."""

    def __init__(self, store: Store, recipe: Recipe, options: Options, pipeline: Pipeline) -> None:
        self._store, self._recipe = store, recipe
        names = pipeline.stage_names
        self._calls = pipeline.calls[: names.index(options.to) + 1 if options.to else len(names)]
        self._made: dict[str, Artifact] = {}  # by the name of the stage

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        if not stage.about.expensive:
            return
        place = next((number for number, call in enumerate(self._calls) if call.stage.name == stage.name), None)
        later = self._calls[place + 1 :] if place is not None else ()
        faults = dict.fromkeys(fault for call in later for fault in self._faults(call))
        if faults:
            raise DataError("not trained, since a later stage would fail:\n" + "\n".join(faults))

    def _faults(self, call: Call) -> Iterator[str]:
        inputs = self._inputs(call) if call.stage.about.checks else {}
        for check in call.stage.about.checks:
            try:
                check(self._recipe, inputs)
            except LlmillError as error:
                yield str(error)

    def _inputs(self, call: Call) -> dict[str, Artifact]:
        """What a stage will read, as far as it is there."""
        there = {}
        for name, given in call.inputs.items():
            artifact = given if isinstance(given, Artifact) else self._made.get(given.call)
            if artifact is not None:
                there[name] = artifact.only(call.stage.reads[name])
                with suppress(DamagedError):  # healed when a stage reads it
                    self._store.fetch(there[name])
        return there

    def finished(self, result: StageResult) -> None:
        if result.artifact is not None:
            self._made[result.stage] = result.artifact
