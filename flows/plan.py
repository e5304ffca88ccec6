"""The plan: what a run would do, stage by stage, and why. Nothing runs, nothing heavy is imported."""

from dataclasses import dataclass, replace
from typing import Any

from flows.build import BUILD, Recipe, building
from flows.estimates import Estimate, estimates
from flows.pipeline import Pipeline
from storage.store.local import Store
from tasks.engine.decide import Decision
from tasks.engine.planner import Options, Planner
from tasks.engine.stage import Stage
from tasks.notices import notices_of

STAGE_NAMES = BUILD.stage_names
READ_BY_OTHERS = {"pretrain": ("context_length", "objective", "initial"), "finetune": ("initial",)}  # than their stage


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of the plan. `estimate` is None where nothing like it was ever built."""

    definition: Stage
    decision: Decision
    estimate: Estimate | None
    seen: tuple[str, ...] = ()  # notices from its inputs, before anything runs
    price_per_hour: float = 0.0  # of the machine; 0: none is set

    @property
    def stage(self) -> str:
        return self.definition.name

    @property
    def notices(self) -> list[str]:
        """Notices from its inputs now, and those of the build that will be reused."""
        reused = self.decision.record if self.decision.will == "reuse" else None
        known = notices_of(reused.get("summary", {})) if reused else []
        code = [f"code: {line}" for line in self.decision.identity.reach.unresolved]
        return [*dict.fromkeys([*self.seen, *known]), *code]

    @property
    def cost(self) -> float | None:
        """What it is expected to cost, in the currency of the price; None where the time or the price is not known."""
        if self.estimate is None or not self.price_per_hour:
            return None
        return round(self.estimate.seconds / 3600 * self.price_per_hour, 2)

    def record(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "will": self.decision.will,
            "why": list(self.decision.why),
            "notices": self.notices,
            "estimate_seconds": self.estimate.seconds if self.estimate else None,
            "estimate_low_seconds": self.estimate.low if self.estimate else None,
            "estimate_high_seconds": self.estimate.high if self.estimate else None,
            **({"estimate_cost": self.cost} if self.price_per_hour else {}),
        }


def make_plan(store: Store, recipe: Recipe, options: Options, pipeline: Pipeline | None = None) -> list[PlannedStage]:
    """Ask `decide` about every stage of the pipeline, in order.

    Raises ConfigError where a stage that will be built cannot be built on this machine, as far as can be seen.
    """
    pipeline = pipeline or building(recipe)
    options.check(pipeline.stage_names)
    planner = Planner(store, options)
    pipeline.walk(recipe, planner)
    found = estimates(store, planner.decisions)
    plan = [
        PlannedStage(
            stage,
            decision,
            estimate,
            tuple(stage.about.notices(recipe, decision.will)),
            recipe.execution.price_per_hour,
        )
        for (stage, decision), estimate in zip(planner.decisions, found, strict=True)
    ]
    if unused := unused_settings(recipe, pipeline):
        plan[-1] = replace(plan[-1], seen=(*plan[-1].seen, *unused))
    return plan


def unused_settings(recipe: Recipe, pipeline: Pipeline) -> list[str]:
    """A sentence for each section that differs from what ships while its stage is no part of the build: what it sets
    would be lost without a word."""
    if pipeline.name != BUILD.name:
        return []  # what goes on from a champion has no need of all that has made it
    sentences = []
    for name, field in type(recipe).model_fields.items():
        section = getattr(recipe, name)
        if name not in STAGE_NAMES or name in pipeline.stage_names or section is None:
            continue
        shipped = field.get_default(call_default_factory=True)
        read = READ_BY_OTHERS.get(name, ())
        differing = [one for one in type(section).model_fields if getattr(section, one) != getattr(shipped, one)]
        if said := [f"{name}.{one}" for one in differing if one not in read]:
            sentences.append(f"{name}: there is no such stage in this plan, so nothing comes of {', '.join(said)}")
    return sentences


def all_reused(plan: list[PlannedStage]) -> bool:
    """Whether a run of this plan would build nothing."""
    return all(line.decision.will == "reuse" for line in plan)
