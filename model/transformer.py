"""The language model: Qwen3 in one glance, with Hugging Face's parameter names.

Shapes: batch B, time T, width D, heads H, key and value heads K, head size E, vocabulary V. `forward` gives hidden
states (B, T, D); `logits` applies the head to whichever of them are wanted, since over a small model the head is
most of the work. Weights are float32; a model computes in its `compute_dtype`, and each linear map casts its weight.

The plain operations below are as fast on a CPU as hand-written backward passes (measured: within 5 %), because
matrix products are nine tenths of the time.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.cache import KeyValueCache
from model.products import linear
from model.shape import WEIGHTS, Shape
from model.weights import check_tensors, write_tensors
from storage.errors import DataError


class RMSNorm(nn.Module):
    """Division by the root mean square over the last dimension, times a trained gain."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)


class Linear(nn.Linear):
    """A linear map without bias that follows the dtype of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.to(x.dtype))


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions on x (B, T, heads, E): the first and the second half of E are the pairs (half rotation)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def rotary_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines (context, 1, E / 2) of the angle by which each position turns each pair."""
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    angles = torch.outer(torch.arange(shape.context_length, dtype=torch.float32), frequencies)
    return angles.cos()[:, None], angles.sin()[:, None]


class Attention(nn.Module):
    """Causal grouped-query attention with RMS-normalised queries and keys."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, shape.head_dim
        self.grouped = shape.heads != shape.key_value_heads
        self.q_proj = Linear(shape.width, shape.heads * shape.head_dim)
        self.k_proj = Linear(shape.width, shape.key_value_heads * shape.head_dim)
        self.v_proj = Linear(shape.width, shape.key_value_heads * shape.head_dim)
        self.o_proj = Linear(shape.heads * shape.head_dim, shape.width)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_epsilon)
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_epsilon)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KeyValueCache | None, mask: Tensor | None
    ) -> Tensor:
        heads = (*x.shape[:2], -1, self.head_dim)
        queries = rotate(self.q_norm(self.q_proj(x).view(heads)), *angles).transpose(1, 2)
        keys = rotate(self.k_norm(self.k_proj(x).view(heads)), *angles).transpose(1, 2)
        values = self.v_proj(x).view(heads).transpose(1, 2)
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=self.grouped
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): (..., width) -> (..., width), by way of `feed_forward` gated channels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.feed_forward)
        self.up_proj = Linear(shape.width, shape.feed_forward)
        self.down_proj = Linear(shape.feed_forward, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added back to it."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_epsilon)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KeyValueCache | None, mask: Tensor | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), angles, cache, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embeddings, blocks and the last norm: what Hugging Face calls `model`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary_size, shape.width)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_epsilon)


class Transformer(nn.Module):
    """A causal language model of a given shape; `compute_dtype` is what activations and products are in."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: Shape, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape, self.compute_dtype = shape, compute_dtype
        self.model = Trunk(shape)
        self.lm_head = None if shape.tied_embeddings else Linear(shape.width, shape.vocabulary_size)
        cosines, sines = rotary_tables(shape)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.compiled = False

    def compile_blocks(self) -> None:
        """Fuse the operations of a block by torch.compile: once, at the first step, for all the equal blocks.

        For training on a GPU, where shapes are fixed and plain operations spend more time on memory than on products.
        """
        self.compiled = True
        for block in self.model.layers:
            block.compile(dynamic=False)

    @property
    def head(self) -> Tensor:
        """The output matrix (V, D): the embeddings themselves where tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        return self.head.device

    def forward(
        self,
        ids: Tensor,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the last norm, for ids (B, T) that follow those in the cache,
        row by row.

        Tokens follow each other and see all before, unless `positions` (B, T) and a boolean `mask` (B, 1, T, T) of
        what each sees say otherwise.
        """
        places = slice(ids.shape[1]) if positions is None else positions
        if cache is not None:
            places, mask = cache.reserve(ids.shape[1])
        angles = (self.cosines[places].to(self.compute_dtype), self.sines[places].to(self.compute_dtype))
        x = self.model.embed_tokens(ids).to(self.compute_dtype)
        for block in self.model.layers:
            x = block(x, angles, cache, mask)
        if cache is not None:
            cache.advance()
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., V), float32, of the next token after each hidden state (..., D)."""
        return linear(hidden, self.head.to(hidden.dtype)).float()


class Logits(nn.Module):
    """A model from ids (B, T) to logits (B, T, V): the graph that is exported."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model.logits(self.model(ids))


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Random weights from a seed alone, the same on every device.

    Embeddings are normal with deviation 0.02; matrices are uniform with variance 1 / inputs; those that write into
    the residual stream are zero, so that each block starts as the identity (modded-nanogpt, record 5).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        else:
            bound = (3.0 / parameter.shape[1]) ** 0.5
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)


def save_model(model: Transformer, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`: equal bytes for equal weights, readable by all."""
    write_tensors(model.state_dict(), folder / WEIGHTS)
    text = json.dumps(model.shape.to_huggingface(), indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def load_model(
    folder: Path, device: str | torch.device = "cpu", compute_dtype: torch.dtype = torch.float32
) -> Transformer:
    """A model from a folder in Hugging Face form (`config.json`, `model.safetensors`)."""
    shape, tensors = read_model_files(folder, WEIGHTS)
    with torch.device("meta"):
        check_weights(folder, Transformer(shape), tensors)
    model = Transformer(shape, compute_dtype)
    model.load_state_dict(tensors)
    return model.to(device).requires_grad_(False).eval()


def read_model_files(folder: Path, weights: str) -> tuple[Shape, dict[str, Tensor]]:
    """The shape and the tensors of a model folder; DataError where it is not one."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if not isinstance(config, dict):
            raise ValueError("config.json holds no JSON object")
        return Shape.from_huggingface(config), load_file(folder / weights)
    except KeyError as error:
        raise DataError(f"{folder}: config.json does not say {error}") from error
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a model folder that can be read ({error})") from error


def check_weights(folder: Path, empty: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise DataError unless the tensors are those of the model; checked before memory is taken for it."""
    check_tensors(f"{folder}: the weights do not fit config.json", empty.state_dict(), tensors)
