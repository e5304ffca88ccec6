"""A pipeline: a named way through stages, from a recipe to a release. `flows/build.py` is the first.

Which stages it has is asked of its function: no list stands beside the flow.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig
from tasks.engine.listener import StageResult
from tasks.engine.planner import ReachedTarget
from tasks.engine.stage import Engine, Output, Pending, Stage, engine_in_force


class _AnyRecipe:
    """Stands for a recipe where only the names of stages are asked for."""

    def __getattr__(self, name: str) -> Any:
        return self


class _Roll:
    """An engine that notes the stages that are called, and builds none."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        self.stages.append(stage)
        return Pending(stage.kind)


def stages_called(function: Callable[[Any], Any], recipe: Any = None) -> tuple[Stage, ...]:
    """The stages that a flow calls, in its order, as far as it comes without any output; of any recipe for None."""
    roll = _Roll()
    with engine_in_force(roll):
        function(_AnyRecipe() if recipe is None else recipe)
    return tuple(roll.stages)


def nothing_at_end(results: Sequence[StageResult], data: dict[str, Any]) -> None:
    """The `at_end` of a build: nothing."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`function(recipe)` calls the stages of `stages` (`stages_called`), in that order; it may leave some of them out.

    `at_end(results, data of the run)` is called once the last stage has ended well, still within the run. `given` are
    the artifacts, by kind, that it takes from outside instead of building them.
    """

    name: str
    function: Callable[[Any], Any]
    stages: tuple[Stage, ...]
    at_end: Callable[[Sequence[StageResult], dict[str, Any]], None] = nothing_at_end
    given: Mapping[str, Artifact] = field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    def walk(self, recipe: Any, engine: Engine) -> None:
        """Call the stages under an engine, to the end or to the stage named by `--to`."""
        with engine_in_force(engine), suppress(ReachedTarget):
            self.function(recipe)
