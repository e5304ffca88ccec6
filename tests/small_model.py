"""A small language model of random weights, for tests of what goes on from a text."""

import torch

from model.shape import Shape
from model.transformer import Transformer

SHAPE = Shape(
    vocabulary_size=300, layers=2, width=64, heads=4, key_value_heads=2, head_dim=16, feed_forward=96, context_length=64
)


def small_model() -> Transformer:
    """Of SHAPE, the same each time; no weight is zero, so that each token hangs on all before it."""
    torch.manual_seed(0)
    model = Transformer(SHAPE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.3 if parameter.ndim == 1 else 0.0, std=0.2)
    return model.eval().requires_grad_(False)
