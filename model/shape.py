"""The shape of a model, and its named sizes. No torch here: plans and configs read this.

A model that is trained here from nothing is Qwen3's (RoPE with half rotation, RMSNorm, QK-norm, SwiGLU, grouped-query
attention, no biases), so that it loads unchanged in transformers, vLLM and llama.cpp. Open models of other families
are the same transformer with other parts (`FAMILIES`); `model/huggingface.py` reads and writes their configs. An
encoder, in which each token sees the whole text, is EuroBERT's: Llama with attention in both directions.
"""

from dataclasses import dataclass
from typing import Literal

from storage.errors import ConfigError

WEIGHTS = "model.safetensors"  # names in a model's folder
INT8_WEIGHTS = "model.int8.safetensors"
SHORT_ROWS = 4  # that a row of the context is cut in, where short ones are learned first

FamilyName = Literal["qwen3", "llama", "gpt2", "eurobert"]


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of a family have in common."""

    rotary: bool  # positions turn queries and keys; else each has a trained vector, added to the embedding
    root_mean_square: bool  # norms divide by it; else they subtract the mean first, and have a bias (LayerNorm)
    normalised_queries: bool  # and keys
    gated: bool  # SwiGLU; else GELU between two maps
    biases: bool
    causal: bool = True  # a token sees those before it, and the model can write; else all, and it is an encoder


FAMILIES: dict[FamilyName, Family] = {
    "qwen3": Family(rotary=True, root_mean_square=True, normalised_queries=True, gated=True, biases=False),
    "llama": Family(rotary=True, root_mean_square=True, normalised_queries=False, gated=True, biases=False),
    "gpt2": Family(rotary=False, root_mean_square=False, normalised_queries=False, gated=False, biases=True),
    "eurobert": Family(
        rotary=True, root_mean_square=True, normalised_queries=False, gated=True, biases=False, causal=False
    ),
}


@dataclass(frozen=True, slots=True)
class Dropout:
    """Shares that training leaves out (model/dropout.py), from 0 to less than 1."""

    embeddings: float = 0.0
    residual: float = 0.0  # of what attention and feed-forward add to the stream
    attention: float = 0.0  # of the shares by which values are mixed


@dataclass(frozen=True, slots=True)
class Shape:
    """All that decides the tensors of a model; sizes are numbers of units.

    Where `rope_factor` is not 1, the wavelengths of rotary positions are that many times longer: all of them, or, with
    `rope_original_context`, as Llama 3 does: those that turn fewer than `rope_low` times within the original context,
    none that turns more than `rope_high` times, and between them in part.
    """

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
    family: FamilyName = "qwen3"
    rope_factor: float = 1.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_original_context: int = 0
    classes: tuple[str, ...] = ()  # of texts, one a row of the head, which is then none of tokens
    mask_token: int = 0  # an encoder's: the id that stands where a token is hidden
    dropout: Dropout = Dropout()  # what its config asks training for

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise ConfigError(
                f"heads ({self.heads}) must be a multiple of key_value_heads ({self.key_value_heads}): "
                "each key and value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim ({self.head_dim}) must be even: rotary positions turn pairs of numbers")

    @property
    def parts(self) -> Family:
        """What a model of this shape is made of."""
        return FAMILIES[self.family]

    @property
    def parameters(self) -> int:
        """Number of trained numbers; a tied head counts once."""
        parts = self.parts
        inner = self.head_dim * (self.heads + 2 * self.key_value_heads)  # of queries, keys and values
        maps = (3 if parts.gated else 2) * self.width * self.feed_forward
        block = self.width * (inner + self.heads * self.head_dim) + maps
        norm = self.width if parts.root_mean_square else 2 * self.width
        block += 2 * norm + (2 * self.head_dim if parts.normalised_queries else 0)
        block += inner + 2 * self.width + self.feed_forward if parts.biases else 0
        embeddings = self.vocabulary_size * self.width * (1 if self.tied_embeddings or self.classes else 2)
        embeddings += len(self.classes) * self.width
        if self.classes and not parts.causal:  # the map before the head, and the biases of both
            embeddings += self.width * (self.width + 1) + len(self.classes)
        positions = 0 if parts.rotary else self.context_length * self.width
        return self.layers * block + embeddings + positions + norm


def check_short_rows(context_length: int) -> None:
    """ConfigError where rows of a context cannot be cut evenly."""
    if context_length % SHORT_ROWS:
        raise ConfigError(
            f"short_rows_share: rows of context_length {context_length} cannot be cut in {SHORT_ROWS}: give 0, or a "
            f"context that divides by {SHORT_ROWS}"
        )


def check_teacher(theirs: Shape, ours: Shape) -> None:
    """Raise ConfigError where a model of one shape cannot teach one of another by its scores.

    Rows of its head beyond our vocabulary are those that open models keep in reserve.
    """
    if theirs.classes or theirs.vocabulary_size < ours.vocabulary_size:
        has = "classes" if theirs.classes else f"a vocabulary of {theirs.vocabulary_size:,} tokens"
        raise ConfigError(
            f"teacher: it has {has}, and the model that learns from it a vocabulary of {ours.vocabulary_size:,} "
            "tokens: both must have the same. Take a teacher with this tokenizer"
        )
    if theirs.context_length < ours.context_length:
        raise ConfigError(
            f"teacher: it sees {theirs.context_length:,} tokens at once, and the model that learns from it "
            f"{ours.context_length:,}: set pretrain.context_length to {theirs.context_length} or less"
        )


@dataclass(frozen=True, slots=True)
class Size:
    """A named size: shape numbers, and the rates, batch and budget that go with them.

    Learning rates: of the matrices (Muon, in units of an update of spectral norm about 1, so one rate fits all widths:
    that of nanochat's scripts/base_train.py) and of embeddings, head and norms (AdamW: falling about as one over the
    root of the width, as nanochat's do). Batches are tokens of one step, from 124m upward those of GPT-3's models
    (Brown et al. 2020, table 2.1): half a million up to 760 million parameters, a million at 1.3 billion. Budgets are
    tokens; from 124m upward 20 tokens a parameter (Hoffmann et al. 2022).
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
