"""A pipeline: a named way through stages, from a recipe to a release. `flows/build.py` is the first."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from flows.recipe import Recipe
from storage.store.artifacts import Artifact
from tasks.engine.listener import StageResult
from tasks.engine.planner import ReachedTarget
from tasks.engine.stage import Engine, Stage, engine_in_force


def nothing_to_settle(results: Sequence[StageResult], data: dict[str, Any]) -> None:
    """What an ordinary build does at its end."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`function(recipe)` calls the stages that `stages` declares, in that order; it may leave some of them out.

    `settle(results, data of the run)` is called once the last stage has ended well, still within the run. `given` are
    the artifacts, by kind, that it takes from outside instead of building them.
    """

    name: str
    function: Callable[[Recipe], Any]
    stages: tuple[Stage, ...]
    settle: Callable[[Sequence[StageResult], dict[str, Any]], None] = nothing_to_settle
    given: Mapping[str, Artifact] = field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    def walk(self, recipe: Recipe, engine: Engine) -> None:
        """Call the stages under an engine, to the end or to the stage named by `--to`."""
        with engine_in_force(engine), suppress(ReachedTarget):
            self.function(recipe)
