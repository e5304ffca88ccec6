"""The plan: what a run would do, stage by stage, and why. Nothing runs, nothing heavy is imported."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.build import STAGES, build
from flows.recipe import Recipe
from storage.store import Store
from tasks.engine import Options, Planner, ReachedTarget
from tasks.stage import Decision, Stage, engine_in_force

STAGE_NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of the plan. `estimate_seconds` is what the closest earlier build took; None where there is none."""

    definition: Stage
    decision: Decision
    estimate_seconds: float | None

    @property
    def stage(self) -> str:
        return self.definition.name

    def record(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "will": self.decision.will,
            "why": list(self.decision.why),
            "estimate_seconds": self.estimate_seconds,
        }


def make_plan(store: Store, recipe: Recipe, options: Options) -> list[PlannedStage]:
    """Ask `decide` about every stage of the flow, in order."""
    options.check(STAGE_NAMES)
    planner = Planner(store, options)
    with engine_in_force(planner), contextlib.suppress(ReachedTarget):
        build(recipe)
    return [PlannedStage(stage, decision, _estimate(decision)) for stage, decision in planner.decisions]


def all_reused(plan: list[PlannedStage]) -> bool:
    return all(line.decision.will == "reuse" for line in plan)


def _estimate(decision: Decision) -> float | None:
    if decision.will == "reuse":
        return 0.0
    record: Mapping[str, Any] = decision.record or {}
    return round(float(record["seconds"]), 1) if "seconds" in record else None
