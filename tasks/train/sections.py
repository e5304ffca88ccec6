"""The sections `pretrain` and `finetune` of a recipe: the settings of their stages, and the model to start from.

Which model that is belongs to the stage initial: another one with the same contents trains nothing again.
"""

from typing import Any

from pydantic import Field

from tasks.engine.config import StageConfig
from tasks.initial.config import InitialConfig
from tasks.train.finetune import FinetuneConfig
from tasks.train.pretrain import PretrainConfig


class PretrainSection(PretrainConfig):
    """Pretraining, and the open model that it goes on from."""

    initial: InitialConfig | None = Field(
        None, title="Initial model", description="Open model whose pretraining goes on; null: random weights."
    )

    @property
    def decides_shape(self) -> bool:
        """Only the recipe knows: fine-tuning can bring a model too."""
        return False

    @property
    def training(self) -> PretrainConfig:
        """The config of the stage pretrain; its fields are checked already, by the recipe."""
        return PretrainConfig.model_construct(**_own(self, PretrainConfig))


class FinetuneSection(FinetuneConfig):
    """Fine-tuning, and the open model that it starts from."""

    initial: InitialConfig | None = Field(
        None, title="Initial model", description="Open model that is fine-tuned, without pretraining; null: our own."
    )

    @property
    def training(self) -> FinetuneConfig:
        """The config of the stage finetune."""
        return FinetuneConfig(**_own(self, FinetuneConfig))


def _own(section: StageConfig, config: type[StageConfig]) -> dict[str, Any]:
    return {name: getattr(section, name) for name in config.model_fields}
