"""A pipeline: a named way through stages, from a recipe to a release. `flows/build.py` is the first.

Which stages it has is asked of its function: no list stands beside the flow.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tasks.engine.about import About
from tasks.engine.config import StageConfig
from tasks.engine.listener import Listener, StageResult
from tasks.engine.planner import ReachedTarget
from tasks.engine.stage import Engine, Output, Pending, Stage, engine_in_force


class _AnyRecipe:
    """Stands for a recipe where only the names of stages are asked for."""

    def __getattr__(self, name: str) -> Any:
        return self


@dataclass(frozen=True, slots=True)
class Call:
    """A stage as a flow calls it: `inputs` by parameter, an artifact or the kind of stage that will have made it."""

    stage: Stage
    inputs: Mapping[str, Output]


class _Roll:
    """An engine that notes the calls of stages, and builds none."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        self.calls.append(Call(stage, inputs))
        return Pending(stage.kind, stage.name)


def stages_called(function: Callable[[Any], Any], recipe: Any = None) -> tuple[Call, ...]:
    """The stages that a flow calls, in its order, as far as it comes without any output; of any recipe for None."""
    roll = _Roll()
    with engine_in_force(roll):
        function(_AnyRecipe() if recipe is None else recipe)
    return tuple(roll.calls)


def nothing_at_end(results: Sequence[StageResult], data: dict[str, Any]) -> None:
    """The `at_end` of a build: nothing."""


@dataclass(frozen=True, slots=True)
class Around:
    """A run that is about to build, for what goes on within it: its Prefect server (None: neither Prefect nor MLflow is
    told), its run in MLflow where that could be opened, and how one listens to its builder."""

    listen: Callable[[Listener], None]
    server: Any = None
    mlflow_run: str | None = None


def nothing_at_start(around: Around) -> None:
    """The `at_start` of a build: nothing."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`function(recipe)` makes the `calls` (`stages_called`) in that order; it may leave some of them out.

    `at_start(around)` is called before the first stage of a run that has something to build, and
    `at_end(results, data of the run)` once the last stage has ended well; both within the run. `title` begins the
    names of its runs in place of recipe and size; `facts` stand in their files. `tells_plan`: its plan is worth
    printing, which it is not where most of the work is that of runs within it.
    """

    name: str
    function: Callable[[Any], Any]
    calls: tuple[Call, ...]
    at_end: Callable[[Sequence[StageResult], dict[str, Any]], None] = nothing_at_end
    at_start: Callable[[Around], None] = nothing_at_start
    title: str = ""
    tells_plan: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(call.stage for call in self.calls)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    def about(self, stage: str) -> About:
        """What a stage says about itself, by the name that the pipeline calls it by."""
        return next((one.about for one in self.stages if one.name == stage), About())

    def walk(self, recipe: Any, engine: Engine) -> None:
        """Call the stages under an engine, to the end or to the stage named by `--to`."""
        with engine_in_force(engine), suppress(ReachedTarget):
            self.function(recipe)
