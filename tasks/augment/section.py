"""The section `augment` of a recipe, and what of it each of its stages needs."""

from pydantic import Field

from tasks.augment.config import AugmentConfig, Kind
from tasks.initial.config import ImportConfig
from tasks.rewrite.config import Rewrite, RewriteConfig


class AugmentSection(AugmentConfig):
    """Training documents once more in other forms; held-out ones never."""

    rewrite: Rewrite | None = Field(None, title="Rewrite", description="In another model's words; empty: none.")

    @property
    def changing(self) -> AugmentConfig:
        """The config of the stage augment, which need not know who rewrites, and how."""
        own = {name: getattr(self, name) for name in AugmentConfig.model_fields}
        kind = Kind(share=self.rewrite.share, instead=self.rewrite.instead) if self.rewrite else None
        return AugmentConfig(**own | {"rewrite": kind})

    @property
    def asking(self) -> RewriteConfig | None:
        """The config of the stage rewrite, if there is one."""
        if self.rewrite is None:
            return None
        return RewriteConfig(**{name: getattr(self.rewrite, name) for name in Rewrite.model_fields}, seed=self.seed)

    @property
    def teacher(self) -> ImportConfig | None:
        """The config of the stage that takes over who rewrites, where that is a model on this machine."""
        return self.asking.importing if self.asking else None
