"""Rotary positions (Su et al. 2021, RoFormer): queries and keys are turned by angles that grow with their place."""

import math
from typing import Any

import torch
from torch import Tensor

from model.shape import Shape

Angles = tuple[Tensor, Tensor]  # cosines and sines


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions on x (B, T, heads, E): the first and the second half of E are the pairs (half rotation)."""
    if x.requires_grad and x.is_cpu and not torch.compiler.is_compiling():
        turned: Tensor = Rotation.apply(x, cosines, sines)
        return turned
    return _turned(x, cosines, sines, 1)


class Rotation(torch.autograd.Function):
    """The rotation, whose gradient is turned back by the same angles: three passes in place of seven."""

    @staticmethod
    def forward(context: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        context.save_for_backward(cosines, sines)
        return _turned(x, cosines, sines, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = context.saved_tensors
        return _turned(gradients[0], cosines, sines, -1), None, None


def _turned(x: Tensor, cosines: Tensor, sines: Tensor, direction: int) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat([second, first], dim=-1)  # as roll, which a compiler takes number by number
    return torch.addcmul(x * cosines, swapped, sines, value=direction)


def rotary_tables(shape: Shape) -> Angles:
    """Cosines and sines (context, 1, E) of the angle by which each position turns each pair: of both halves, the sines
    of the first with the sign that it takes the second half by."""
    if torch.get_default_device().type == "meta":  # no values, as in transformer.Embedding
        cosines, sines = torch.empty(2, shape.context_length, 1, shape.head_dim)
        return cosines, sines
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim)
    if shape.rope_factor != 1:
        frequencies = lengthened(frequencies, shape)
    angles = torch.outer(torch.arange(shape.context_length, dtype=torch.float32), frequencies)
    cosines, sines = angles.cos()[:, None], angles.sin()[:, None]
    return torch.cat([cosines, cosines], dim=-1), torch.cat([-sines, sines], dim=-1)


def lengthened(frequencies: Tensor, shape: Shape) -> Tensor:
    """Rotary frequencies of a context longer than the one first trained on (Shape says by which rule)."""
    longer = frequencies / shape.rope_factor
    if not shape.rope_original_context:
        return longer
    turns = shape.rope_original_context * frequencies / (2 * math.pi)
    kept = ((turns - shape.rope_low) / (shape.rope_high - shape.rope_low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * longer
