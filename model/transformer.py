"""The language model in one glance, with Hugging Face's parameter names: Qwen3, and what Llama, GPT-2 and EuroBERT do
otherwise.

Shapes: batch B, time T, width D, heads H, key and value heads K, head size E, vocabulary V. `forward` gives hidden
states (B, T, D); `logits` applies the head to whichever of them are wanted, since over a small model the head is
most of the work. Weights are float32; a model computes in its `compute_dtype`, and each linear map casts its weight.

What is written out for a CPU, whose operations are not fused, are norms (model/products.py), rotation
(model/rotary.py) and attention (model/attention.py).
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import attend
from model.cache import KeyValueCache
from model.dropout import EVERYTHING, Kept, KeptInBlock, Noise, drop
from model.huggingface import config_of, read_shape
from model.products import linear, rms_norm
from model.rotary import Angles, rotary_tables, rotate
from model.shape import WEIGHTS, Shape
from model.tensors import as_ours, as_theirs, read_tensors
from model.weights import check_tensors, write_tensors


class RMSNorm(nn.Module):
    """Division by the root mean square over the last dimension, times a trained gain."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.epsilon)


class LayerNorm(nn.LayerNorm):
    """Mean 0 and deviation 1 over the last dimension, times a trained gain, plus a bias; GPT-2's norm."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def norm_of(shape: Shape) -> RMSNorm | LayerNorm:
    """A norm of the residual stream."""
    kind = RMSNorm if shape.parts.root_mean_square else LayerNorm
    return kind(shape.width, shape.norm_epsilon)


class Embedding(nn.Embedding):
    """A table of vectors. One without memory is given no values: torch imports its compiler for that, 1.5 s of CPU."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Linear(nn.Linear):
    """A linear map that follows the dtype of its input."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        product = linear(x, weight if weight.dtype == x.dtype else weight.to(x.dtype))
        return product if bias is None else product + bias.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention, causal but in an encoder; RMS-normalised queries and keys in Qwen3."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, shape.head_dim
        parts = shape.parts
        self.causal = parts.causal
        self.q_proj = Linear(shape.width, shape.heads * shape.head_dim, parts.biases)
        self.k_proj = Linear(shape.width, shape.key_value_heads * shape.head_dim, parts.biases)
        self.v_proj = Linear(shape.width, shape.key_value_heads * shape.head_dim, parts.biases)
        self.o_proj = Linear(shape.heads * shape.head_dim, shape.width, parts.biases)
        if parts.normalised_queries:
            self.q_norm: nn.Module = RMSNorm(shape.head_dim, shape.norm_epsilon)
            self.k_norm: nn.Module = RMSNorm(shape.head_dim, shape.norm_epsilon)
        else:
            self.q_norm = self.k_norm = nn.Identity()

    def forward(
        self,
        x: Tensor,
        angles: Angles | None,
        cache: KeyValueCache | None,
        mask: Tensor | None,
        kept: Kept | None = None,
    ) -> Tensor:
        queries, keys, values = (part.transpose(1, 2) for part in self.maps(x, angles))
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)
        mixed = attend(queries, keys, values, mask, self.causal and cache is None, kept)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def maps(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E), keys and values (B, T, K, E), the first two turned to their positions."""
        heads = (*x.shape[:2], -1, self.head_dim)
        queries, keys = self.q_norm(self.q_proj(x).view(heads)), self.k_norm(self.k_proj(x).view(heads))
        if angles is not None:
            queries, keys = rotate(queries, *angles), rotate(keys, *angles)
        return queries, keys, self.v_proj(x).view(heads)


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): (..., width) -> (..., width), by way of `feed_forward` gated channels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.feed_forward)
        self.up_proj = Linear(shape.width, shape.feed_forward)
        self.down_proj = Linear(shape.feed_forward, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class FeedForward(nn.Module):
    """GPT-2's: GELU (in its form with tanh) between two maps, (..., width) -> (..., width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up_proj = Linear(shape.width, shape.feed_forward, shape.parts.biases)
        self.down_proj = Linear(shape.feed_forward, shape.width, shape.parts.biases)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added back to it."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = norm_of(shape)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = norm_of(shape)
        self.mlp = GatedFeedForward(shape) if shape.parts.gated else FeedForward(shape)

    def forward(
        self,
        x: Tensor,
        angles: Angles | None,
        cache: KeyValueCache | None,
        mask: Tensor | None,
        kept: KeptInBlock = EVERYTHING,
    ) -> Tensor:
        mixed = self.self_attn(self.input_layernorm(x), angles, cache, mask, kept.shares)
        x = x + drop(mixed, kept.mixed)
        return x + drop(self.mlp(self.post_attention_layernorm(x)), kept.fed_forward)


class Trunk(nn.Module):
    """Embeddings, blocks and the last norm: what Hugging Face calls `model`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = Embedding(shape.vocabulary_size, shape.width)
        self.embed_positions = None if shape.parts.rotary else Embedding(shape.context_length, shape.width)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.norm = norm_of(shape)


class PooledHead(nn.Module):
    """An encoder's head of classes, EuroBERT's "late": scores of every token, and their mean over a text."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dense = Linear(shape.width, shape.width, bias=True)
        self.classifier = Linear(shape.width, len(shape.classes), bias=True)

    @property
    def weight(self) -> Tensor:
        """(classes, D)"""
        return self.classifier.weight

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        """Scores (B, classes), float32, from hidden states (B, T, D) and which of them are the text's (B, T).

        The last map is linear, so that the mean can be taken before it, over D numbers a token.
        """
        counted = inside[..., None].to(hidden.dtype)
        pooled = (F.gelu(self.dense(hidden)) * counted).sum(dim=1) / counted.sum(dim=1)
        return self.classifier(pooled).float()


class Transformer(nn.Module):
    """A language model of a given shape; `compute_dtype` is what activations and products are in."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: Shape, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape, self.compute_dtype = shape, compute_dtype
        self.model = Trunk(shape)
        own_head = not shape.tied_embeddings and not shape.classes
        self.lm_head = Linear(shape.width, shape.vocabulary_size) if own_head else None
        self.score: Linear | PooledHead | None = None
        if shape.classes:
            self.score = Linear(shape.width, len(shape.classes)) if shape.parts.causal else PooledHead(shape)
        if shape.parts.rotary:
            cosines, sines = rotary_tables(shape)
            self.register_buffer("cosines", cosines, persistent=False)
            self.register_buffer("sines", sines, persistent=False)
        self.compiled = False

    def compile_blocks(self) -> None:
        """Fuse the operations of a block by torch.compile: once, at the first step, for all the equal blocks.

        For training where shapes are fixed, and plain operations spend more time on memory than on products: on a GPU,
        and on a CPU in bfloat16.
        """
        self.compiled = True
        for block in self.model.layers:
            block.compile(dynamic=False)

    @property
    def head(self) -> Tensor:
        """The output matrix (V, D): the embeddings themselves where tied; of a classifier (classes, D)."""
        if self.score is not None:
            return self.score.weight
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
        noise: Noise | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) after the last norm, for ids (B, T) that follow those in the cache,
        row by row.

        Tokens follow each other and see all before, of an encoder all, unless `positions` (B, T) and a boolean `mask`
        (B, 1, T or 1, T) of what each sees say otherwise. A model in training leaves out what `noise` says.
        """
        places = slice(ids.shape[1]) if positions is None else positions
        if cache is not None:
            places, mask = cache.reserve(ids.shape[1])
        x, angles = self.model.embed_tokens(ids), None
        if self.model.embed_positions is None:
            angles = (self.cosines[places].to(self.compute_dtype), self.sines[places].to(self.compute_dtype))
        else:
            x = x + self.model.embed_positions.weight[places]
        x = x.to(self.compute_dtype)
        if noise is None or not self.training:
            for block in self.model.layers:
                x = block(x, angles, cache, mask)
        else:
            x = drop(x, noise.in_embeddings(x))
            for layer, block in enumerate(self.model.layers):
                x = block(x, angles, cache, mask, noise.in_block(layer, x, self.shape.heads))
        if cache is not None:
            cache.advance()
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., V), float32, of the next token after each hidden state (..., D); of an encoder, of the token
        there."""
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
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
        elif name.endswith(("embed_tokens.weight", "embed_positions.weight", "lm_head.weight")):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        else:
            bound = (3.0 / parameter.shape[1]) ** 0.5
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)


def save_model(model: Transformer, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`: equal bytes for equal weights, readable by all."""
    write_tensors(as_theirs(model.shape, model.state_dict()), folder / WEIGHTS)
    text = json.dumps(config_of(model.shape), indent=2, sort_keys=True) + "\n"
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
    shape = read_shape(folder)
    return shape, as_ours(shape, read_tensors(folder, weights))


def check_weights(folder: Path, empty: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise DataError unless the tensors are those of the model; checked before memory is taken for it."""
    check_tensors(f"{folder}: the weights do not fit config.json", empty.state_dict(), tensors)
