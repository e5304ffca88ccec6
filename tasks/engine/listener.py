"""What the builder reports of its work, to listeners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig
from tasks.engine.context import Summary
from tasks.engine.decide import Decision
from tasks.engine.meter import Progress
from tasks.engine.retries import Retry
from tasks.engine.stage import Stage

Outcome = Literal["built", "reused", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What became of one stage in a run."""

    stage: str
    outcome: Outcome
    why: tuple[str, ...]
    seconds: float = 0.0
    artifact: Artifact | None = None
    summary: Summary = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    error: str | None = None
    attempts: int = 1


class Listener:
    """Notified of what the builder does; every method may be left as it is."""

    def started(self, stage: Stage, config: StageConfig, decision: Decision) -> None:
        """A stage is about to be built."""

    def waits(self, stage: str, holder: str) -> None:
        """A stage waits for a run that builds the same; called at once and again each minute."""

    def progressed(self, stage: str, progress: Progress) -> None:
        """A stage reports how far it is."""

    def measured(self, stage: str, rows: Sequence[Mapping[str, float]]) -> None:
        """A stage hands over rows of metrics."""

    def retrying(self, retry: Retry) -> None:
        """An attempt at a stage has failed and will be repeated."""

    def finished(self, result: StageResult) -> None:
        """A stage was built, reused or has failed."""

    def provenance(self, stage: str) -> dict[str, Any]:
        """What a listener wants to see in the build record: the id of its own record of the build."""
        return {}
