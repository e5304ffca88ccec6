"""How often a stage is tried again after what a retry can cure, and how long one attempt may take.

Settings of `execution`: nothing here enters a key. What a stage does not say itself, the section says for all.
"""

from dataclasses import dataclass

from pydantic import Field

from tasks.config import StageConfig

MAX_RETRIES = 20
MAX_MINUTES = 525_600.0  # a year


class StageLimits(StageConfig):
    """The limits of one stage."""

    retries: int | None = Field(
        None, ge=0, le=MAX_RETRIES, description="Retries after an error of network or database; empty: as for all."
    )
    timeout_minutes: float | None = Field(
        None, gt=0, le=MAX_MINUTES, description="Minutes that an attempt may take; empty: as for all stages."
    )


class LimitsByStage(StageConfig):
    """The stages that need limits of their own; a stage that is not named here has those for all."""

    collect: StageLimits = Field(StageLimits(), title="Collect", description="Limits of its own.")
    deduplicate: StageLimits = Field(StageLimits(), title="Deduplicate", description="Limits of its own.")
    filter: StageLimits = Field(StageLimits(), title="Filter", description="Limits of its own.")
    tokenizer: StageLimits = Field(StageLimits(), title="Tokenizer", description="Limits of its own.")
    tokenize: StageLimits = Field(StageLimits(), title="Tokenize", description="Limits of its own.")
    pretrain: StageLimits = Field(StageLimits(), title="Pretrain", description="Limits of its own.")
    finetune: StageLimits = Field(StageLimits(), title="Fine-tune", description="Limits of its own.")
    evaluate: StageLimits = Field(StageLimits(), title="Evaluate", description="Limits of its own.")
    release: StageLimits = Field(StageLimits(), title="Release", description="Limits of its own.")


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one stage, and the field that says how long it may take."""

    retries: int
    timeout_minutes: float | None
    timeout_field: str
