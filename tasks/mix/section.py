"""The section `collect` of a recipe: where the text comes from, how much of each pretraining reads, and what else is
read."""

from typing import Self

from pydantic import Field, model_validator

from tasks.collect.config import CollectConfig
from tasks.collect.labelled import LabelsSource
from tasks.mix.config import MixConfig


class CollectSection(CollectConfig):
    """The settings of the stage collect, and the mix: a stage of its own, since another mix collects nothing again."""

    mix: MixConfig | None = Field(None, title="Mix", description="How much of each source pretraining reads, and when.")

    labels: tuple[LabelsSource, ...] = Field(
        (), description="Texts with labels of your own, from which moderation learns; no other stage sees them."
    )

    @property
    def collecting(self) -> CollectConfig:
        """The config of the stage collect."""
        return CollectConfig(**{name: getattr(self, name) for name in CollectConfig.model_fields})

    @model_validator(mode="after")
    def _labels_once(self) -> Self:
        names = [source.name for source in self.labels]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"labels: two sources are named {name}: give each a name of its own (`name: ...`)")
        return self

    @model_validator(mode="after")
    def _mix_names_sources(self) -> Self:
        if self.mix is not None and self.mix.by == "source":
            try:
                self.mix.check_names(self.document_sources)
            except ValueError as error:
                raise ValueError(f"mix.{error}") from None
        return self
