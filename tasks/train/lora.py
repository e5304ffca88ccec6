"""The settings of low-rank adapters, which train in place of all weights (model/lora.py)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from storage.errors import ConfigError
from tasks.engine.config import StageConfig
from tasks.train.config import Rates, TrainerConfig

if TYPE_CHECKING:
    from model.lora import LowRank
    from model.shape import Shape

Map = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


ABOUT = "about.json"  # in the part `adapter`: its settings, or null where all weights were trained


class LoraConfig(StageConfig):
    """Small matrices that are trained beside frozen maps (LoRA)."""

    rank: int = Field(8, ge=1, le=1024, description="Rows of an adapter: what it can express, and what it costs.")
    alpha: float = Field(16.0, gt=0, le=1e6, description="Weight of the adapters: they count alpha / rank times.")
    targets: tuple[Map, ...] = Field(
        (), description="Maps of a block that are adapted, by their names in transformers; empty: all that it has."
    )
    rate: float = Field(0.002, gt=0, le=1, description="Peak learning rate of the adapters (AdamW).")

    @field_validator("targets")
    @classmethod
    def _once_each(cls, targets: tuple[Map, ...]) -> tuple[Map, ...]:
        return tuple(sorted(set(targets)))  # their order decides nothing

    def check_targets(self, shape: "Shape", field: str) -> None:
        """Raise ConfigError that begins with the `field` of the targets where a model of a shape lacks one."""
        if "gate_proj" in self.targets and not shape.parts.gated:
            raise ConfigError(f"{field}: a {shape.family} model has no gate_proj; take it away")

    @property
    def settings(self) -> "LowRank":
        """What the trainer takes."""
        from model.lora import LowRank

        return LowRank(self.rank, self.alpha, self.targets)


class AdaptableConfig(TrainerConfig):
    """A training that starts from weights: of all of them, or of adapters beside them."""

    lora: LoraConfig | None = Field(
        None, description="Train low-rank adapters beside the weights, which stay; empty: all weights are trained."
    )

    @property
    def rates(self) -> Rates:
        """Peak learning rates of matrices, and of all else that is trained."""
        if self.lora:
            return Rates(self.lora.rate, self.lora.rate)
        assert self.matrix_rate and self.embedding_rate  # stages that start from weights have rates of their own
        return Rates(self.matrix_rate, self.embedding_rate)


def write_about(lora: LoraConfig | None, folder: Path) -> None:
    """Say beside an adapter, or in its place, how it was trained: no part is without a file."""
    text = json.dumps(lora.model_dump(mode="json") if lora else None, sort_keys=True)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")
