"""The section `moderate` of a recipe, and what of it each of its two stages needs."""

from typing import Literal

from pydantic import Field

from tasks.collect.labelled import LabelsSource
from tasks.engine.config import StageConfig
from tasks.moderate.config import ModerationConfig


class Learning(ModerationConfig):
    """What the stage moderator is told."""

    strength: float = Field(
        10.0, gt=0, le=10_000, description="How closely the classifier follows its rows (liblinear's C)."
    )
    heldout_fraction: float = Field(
        0.1,
        ge=0.01,
        le=0.5,
        description="Share of the labelled rows that it is scored on, by a hash of their group.",
    )
    max_bad_fraction: float = Field(
        0.01, ge=0, le=1, description="Share of a source's labelled rows that may be bad; more fails the stage."
    )


class ModeratorConfig(Learning):
    """The config of the stage moderator."""

    sources: tuple[LabelsSource, ...] = ()


class ModerateConfig(StageConfig):
    """What the stage moderate is told."""

    documents: Literal["drop", "report"] = Field(
        "drop", description="What becomes of a flagged document, and of a pair whose answer is flagged."
    )
    max_flagged: float = Field(
        0.0, ge=0, lt=1, description="Share of a document's passages (about 400 characters) that may be flagged."
    )


class ModerateSection(Learning, ModerateConfig):
    """Moderation of what is learned from; the judge that it makes is also the one at `llmill serve`."""

    @property
    def judging(self) -> ModerateConfig:
        """The config of the stage moderate."""
        return ModerateConfig(documents=self.documents, max_flagged=self.max_flagged)

    def learning(self, sources: tuple[LabelsSource, ...]) -> ModeratorConfig:
        """The config of the stage moderator, with the sources of labelled rows."""
        return ModeratorConfig(**{name: getattr(self, name) for name in Learning.model_fields}, sources=sources)
