"""What all kinds of training can be told, and what they observe of the machine."""

from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from tasks.engine.config import StageConfig
from tasks.train.device import float32_arithmetic, training_device, training_dtype


class Rates(NamedTuple):
    """Peak rates: of matrices; of embeddings, head and norms; and by what embeddings have more than the head."""

    matrices: float
    embeddings: float
    embedding_factor: float = 1.0


class DeviceConfig(StageConfig):
    """What computes."""

    threads: int = Field(2, ge=1, le=1024, description="CPU threads; sums depend on them.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where it computes; auto takes a GPU if there.")


class TrainerConfig(DeviceConfig):
    """What pretraining and fine-tuning share. None of the rates: take that of the size."""

    matrix_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate of matrices (Muon).")
    embedding_rate: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate of embeddings, head and norms (AdamW)."
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="Momentum of Muon.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Decoupled weight decay of matrices, per unit of rate.")
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="Largest norm of the whole gradient.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share left out in training of embeddings, attention and what is added to the stream; null: as "
        "config.json of the model that it starts from says, and none of random weights.",
    )
    warmup_share: float = Field(0.02, ge=0, le=0.5, description="Share of the steps over which the rate rises.")
    decay_share: float = Field(0.4, ge=0, le=1, description="Share of the steps, at the end, over which it falls to 0.")
    micro_batch_tokens: int = Field(
        65_536, ge=64, le=4_194_304, description="Most tokens forwarded at once; larger batches are accumulated."
    )
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of first weights and of the order of the data.")
    processes: int = Field(
        1, ge=1, le=4096, description="Processes that train together, each on rows of its own; of GPUs one for each."
    )
    sharded: bool = Field(False, description="Whether each of several processes holds a part of the model, not all.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Numbers of activations and products; auto: bfloat16 where the device is faster in it."
    )
    validation_interval: int = Field(500, ge=1, le=10_000_000, description="Optimizer steps between two validations.")
    validation_tokens: int = Field(
        65_536, ge=256, le=1_000_000_000, description="Tokens of held-out documents scored each time."
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Validations without a better one after which training ends, with the best weights; null: never.",
    )

    def identity(self) -> dict[str, Any]:
        """Without `dropout` where nothing is said of it: such a training is what it was before there was any."""
        found = super().identity()
        if self.dropout == type(self).model_fields["dropout"].default:
            del found["dropout"]
        return found

    @model_validator(mode="after")
    def _shares_fit(self) -> "TrainerConfig":
        if self.warmup_share + self.decay_share > 1:
            raise ValueError("warmup_share + decay_share must not exceed 1: they are shares of the same steps")
        return self


def observe_device(config: TrainerConfig) -> dict[str, str]:
    """What `auto` stands for on this machine: weights of another device are other weights."""
    device = training_device(config.device)
    dtype = training_dtype(config.dtype, device)
    return {"device": device, "dtype": dtype, **float32_arithmetic(dtype, device)}
