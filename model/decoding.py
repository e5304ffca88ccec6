"""A model laid out for decoding on a CPU, where a step has a few rows and each call costs as much as its numbers.

What it computes stays as it is but for the last digits of sums (benchmarks/serving_speed.py has what it gains).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.products import rms_norm
from model.rotary import Angles, rotate
from model.shape import Shape
from model.transformer import Attention, Block, GatedFeedForward, Linear, Transformer


def lay_out_for_decoding(model: Transformer) -> None:
    """Join the maps that read the same numbers, and turn matrices in memory, not in value: a few rows by a matrix that
    lies so cost half the time with MKL, which else has to turn it for each product.

    Adapters may be put beside it afterwards (model/adapter_rows.py); maps that have some already, and those in eight
    bits, stay as they are. The weights are no more to be saved.
    """
    for block in model.model.layers:
        assert isinstance(block, Block)
        attention, mlp = block.self_attn, block.mlp
        if all(type(one) is Linear for one in (attention.q_proj, attention.k_proj, attention.v_proj)):
            block.self_attn = JoinedAttention(attention, model.shape)
        if isinstance(mlp, GatedFeedForward) and type(mlp.gate_proj) is type(mlp.up_proj) is Linear:
            block.mlp = JoinedFeedForward(mlp, model.shape)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = module.weight.data.t().contiguous().t()


class JoinedLinear(Linear):
    """One map whose outputs are those of several of a module, one after the other; `parts` are their names and numbers
    of outputs."""

    def __init__(self, plain: nn.Module, names: Sequence[str]) -> None:
        maps = [plain.get_submodule(name) for name in names]
        weights: list[Tensor] = [one.get_parameter("weight") for one in maps]
        with torch.device("meta"):
            super().__init__(weights[0].shape[1], sum(len(weight) for weight in weights))
        self.parts = tuple((name, len(weight)) for name, weight in zip(names, weights, strict=True))
        self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        if maps[0].bias is not None:
            self.bias = nn.Parameter(torch.cat([one.get_parameter("bias") for one in maps]), requires_grad=False)


class JoinedAttention(Attention):
    """Attention with one map for queries, keys and values, and one norm and rotation for queries and keys."""

    gains: Tensor | None

    def __init__(self, plain: Attention, shape: Shape) -> None:
        with torch.device("meta"):
            super().__init__(shape, plain.layer)
        self.qkv_proj, self.o_proj = JoinedLinear(plain, ("q_proj", "k_proj", "v_proj")), plain.o_proj
        self.heads = shape.heads, shape.key_value_heads
        self.epsilon, gains = shape.norm_epsilon, None
        if shape.parts.normalised_queries:
            norms = (plain.q_norm,) * shape.heads + (plain.k_norm,) * shape.key_value_heads
            gains = torch.stack([norm.get_parameter("weight") for norm in norms])
        self.register_buffer("gains", gains)
        for name in ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm"):
            delattr(self, name)

    def maps(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys = self.heads
        every = self.qkv_proj(x).view(*x.shape[:2], -1, self.head_dim)
        turned, values = every[:, :, : queries + keys], every[:, :, queries + keys :]
        if self.gains is not None:
            turned = rms_norm(turned, None, self.epsilon).mul_(self.gains)
        if angles is not None:
            turned = rotate(turned, *angles)
        return turned[:, :, :queries], turned[:, :, queries:], values


class JoinedFeedForward(GatedFeedForward):
    """SwiGLU with one map for the gate and what it gates."""

    def __init__(self, plain: GatedFeedForward, shape: Shape) -> None:
        with torch.device("meta"):
            super().__init__(shape)
        self.gate_and_up, self.down_proj = JoinedLinear(plain, ("gate_proj", "up_proj")), plain.down_proj
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)
