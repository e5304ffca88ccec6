"""The shape of a model, its named sizes, and its Hugging Face form. No torch here: plans and configs read this.

The architecture is Qwen3's (RoPE with half rotation, RMSNorm, QK-norm, SwiGLU, grouped-query attention, no biases),
so that every model trained here loads unchanged in transformers, vLLM and llama.cpp.
"""

from dataclasses import dataclass
from typing import Any

from storage.errors import ConfigError

WEIGHTS = "model.safetensors"  # names in a model's folder
INT8_WEIGHTS = "model.int8.safetensors"


@dataclass(frozen=True, slots=True)
class Shape:
    """All that decides the tensors of a model; sizes are numbers of units."""

    vocabulary_size: int
    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_dim: int
    feed_forward: int
    context_length: int
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise ConfigError(
                f"heads ({self.heads}) must be a multiple of key_value_heads ({self.key_value_heads}): "
                "each key and value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim ({self.head_dim}) must be even: rotary positions turn pairs of numbers")

    @property
    def parameters(self) -> int:
        """Number of trained numbers; a tied head counts once."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.key_value_heads)
        block = attention + 3 * self.width * self.feed_forward + 2 * self.width + 2 * self.head_dim
        embeddings = self.vocabulary_size * self.width * (1 if self.tied_embeddings else 2)
        return self.layers * block + embeddings + self.width

    def to_huggingface(self, end_of_text: int = 0) -> dict[str, Any]:
        """The `config.json` that transformers reads, for the architecture Qwen3ForCausalLM."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocabulary_size,
            "hidden_size": self.width,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context_length,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_epsilon,
            "tie_word_embeddings": self.tied_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "initializer_range": 0.02,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "dtype": "float32",
        }

    @classmethod
    def from_huggingface(cls, config: dict[str, Any]) -> "Shape":
        """The shape that a `config.json` names; refuses what this architecture is not."""
        if config.get("model_type") != "qwen3" or config.get("attention_bias") or config.get("use_sliding_window"):
            raise ConfigError(f"config.json: not a plain Qwen3 model (model_type {config.get('model_type')!r})")
        theta = config.get("rope_theta") or config.get("rope_parameters", {}).get("rope_theta", 10_000.0)
        return cls(
            vocabulary_size=config["vocab_size"],
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            key_value_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            feed_forward=config["intermediate_size"],
            context_length=config["max_position_embeddings"],
            rope_theta=float(theta),
            norm_epsilon=config["rms_norm_eps"],
            tied_embeddings=config["tie_word_embeddings"],
        )


@dataclass(frozen=True, slots=True)
class Size:
    """A named size: shape numbers, and the rates, batch and budget that go with them.

    Learning rates: of the matrices (Muon, in units of an update of spectral norm about 1) and of embeddings, head
    and norms (AdamW). Budgets are tokens; from 124m upward 20 tokens a parameter (Hoffmann et al. 2022).
    """

    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_dim: int
    feed_forward: int
    context_length: int
    tied_embeddings: bool
    matrix_rate: float
    embedding_rate: float
    batch_tokens: int
    tokens: int


SIZES: dict[str, Size] = {
    "nano": Size(2, 128, 2, 1, 64, 384, 256, True, 0.02, 0.01, 2_048, 2_000_000),
    "micro": Size(4, 256, 4, 2, 64, 704, 512, True, 0.02, 0.008, 8_192, 20_000_000),
    "mini": Size(8, 512, 8, 4, 64, 1_408, 1_024, True, 0.02, 0.005, 32_768, 600_000_000),
    "124m": Size(12, 768, 12, 4, 64, 2_304, 1_024, True, 0.02, 0.004, 524_288, 2_500_000_000),
    "350m": Size(24, 1_024, 16, 8, 64, 2_816, 2_048, True, 0.02, 0.003, 524_288, 7_000_000_000),
    "1b": Size(22, 2_048, 32, 8, 64, 5_632, 2_048, False, 0.02, 0.002, 1_048_576, 22_000_000_000),
}
