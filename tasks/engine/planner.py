"""The planner: answers every stage call with a decision, and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.errors import ConfigError, did_you_mean
from storage.fingerprint import reread_code
from storage.store.local import Store
from tasks.engine.config import StageConfig
from tasks.engine.decide import Decision, decide
from tasks.engine.stage import Output, Pending, Stage


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run beside its recipe."""

    to: str | None = None  # the last stage to run
    force: frozenset[str] = frozenset()  # build even if it could be reused
    keep: frozenset[str] = frozenset()  # adopt results whose code alone has changed

    def check(self, stages: Sequence[str]) -> None:
        """Raise ConfigError for a name that is not a stage."""
        named = [("--to", self.to)] if self.to is not None else []
        named += [("--force", name) for name in sorted(self.force)] + [("--keep", name) for name in sorted(self.keep)]
        for option, name in named:
            if name not in stages:
                near = did_you_mean(name, stages)
                raise ConfigError(f"{option} {name}: no such stage{near}. Stages: {', '.join(stages)}")
        for name in sorted(self.force & self.keep):
            raise ConfigError(f"--force {name} and --keep {name} exclude each other: name the stage in one of them")
        for option, name in named[1:] if self.to else []:
            if stages.index(name) > stages.index(self.to or ""):
                raise ConfigError(f"--to {self.to} and {option} {name} exclude each other: the run ends before {name}")


class ReachedTarget(Exception):
    """The stage named by `--to` is done: the flow ends here."""


class Planner:
    """Answers every stage call with a decision; nothing runs."""

    def __init__(self, store: Store, options: Options) -> None:
        reread_code()
        self.store = store
        self.options = options
        self.decisions: list[tuple[Stage, Decision]] = []

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Output:
        force, keep = stage.name in self.options.force, stage.name in self.options.keep
        decision = decide(self.store, stage, config, inputs, force=force, keep=keep)
        self.decisions.append((stage, decision))
        if stage.name == self.options.to:
            raise ReachedTarget
        return decision.artifact or Pending(stage.kind)
