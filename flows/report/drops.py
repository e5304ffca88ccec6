"""The way of the documents through the data stages: how many each kept and dropped, and why."""

from collections.abc import Iterator

from flows.report.run_data import RunData
from storage.listing import first_few
from tasks.engine.about import DOCUMENTS
from tasks.engine.reported import Fact, Reason
from tasks.wording import figure

BARS = 8  # a bar each for the reasons that dropped most
MOST_OTHERS = 20


class StageDrops(Fact):
    """A data stage: read = kept + dropped + quarantined."""

    stage: str
    read: int
    kept: int
    dropped: int
    quarantined: int
    reasons: tuple[Reason, ...]  # most documents first

    @property
    def others(self) -> list[str]:
        """The reasons that get no bar, with their counts."""
        others = [f"{reason.name} {figure(reason.count)}" for reason in self.reasons[BARS:]]
        return first_few(others, MOST_OTHERS, "reasons")


def document_flow(data: RunData) -> list[StageDrops]:
    """Counts and reasons of the data stages that the run came to, in order."""
    return list(_stages(data))


def _stages(data: RunData) -> Iterator[StageDrops]:
    for stage, row in data.rows.items():
        summary = data.summary(stage)
        if "read" in summary and DOCUMENTS in row.get("artifact", {}).get("parts", {}):
            reasons = sorted(data.section(stage).reasons, key=lambda reason: (-reason.count, reason.name))
            counts = {name: summary[name] for name in ("read", "kept", "dropped", "quarantined")}
            yield StageDrops(stage=stage, **counts, reasons=tuple(reasons))
