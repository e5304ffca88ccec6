"""The section `collect` of a recipe: where the text comes from, and how much of each pretraining reads."""

from typing import Self

from pydantic import Field, model_validator

from tasks.collect.config import CollectConfig
from tasks.mix.config import MixConfig


class CollectSection(CollectConfig):
    """The settings of the stage collect, and the mix: a stage of its own, since another mix collects nothing again."""

    mix: MixConfig | None = Field(None, title="Mix", description="How much of each source pretraining reads, and when.")

    @property
    def collecting(self) -> CollectConfig:
        """The config of the stage collect."""
        return CollectConfig(**{name: getattr(self, name) for name in CollectConfig.model_fields})

    @model_validator(mode="after")
    def _mix_names_sources(self) -> Self:
        if self.mix is not None and self.mix.by == "source":
            try:
                self.mix.check_names(self.document_sources)
            except ValueError as error:
                raise ValueError(f"mix.{error}") from None
        return self
