"""Attention by plain products, and rotary positions, give the values and the gradients of torch's own operations."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.attention import PlainAttention, attend
from model.rotary import rotary_tables, rotate
from model.shape import Shape


def values_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    inputs = tuple(one.requires_grad_() for one in inputs)
    found = function(*inputs)
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found.dtype)
    return [found, *torch.autograd.grad(found, inputs, outer)]


def heads(heads: int, served: int, dtype: torch.dtype, time: int = 24) -> list[Tensor]:
    """Queries, keys and values as maps leave them: (B, T, heads, E) seen as (B, heads, T, E)."""
    generator = torch.Generator().manual_seed(heads)
    return [
        torch.randn(3, time, count, 16, generator=generator).to(dtype).transpose(1, 2)
        for count in (heads, served, served)
    ]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("count", "served"), [(4, 4), (4, 2), (3, 1)])
def test_plain_attention_is_that_of_torch(count: int, served: int, causal: bool) -> None:
    def torchs(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=causal, enable_gqa=True)

    def plain(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        found: Tensor = PlainAttention.apply(queries, keys, values, causal)
        return found

    expected = values_and_gradients(torchs, *heads(count, served, torch.float64))
    found = values_and_gradients(plain, *heads(count, served, torch.float64))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_in_bfloat16_is_close_to_that_in_float64(masked: bool) -> None:
    mask = torch.ones(24, 24, dtype=torch.bool).tril() if masked else None

    def ours(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return attend(queries, keys, values, mask, causal=True)

    expected = values_and_gradients(ours, *heads(4, 2, torch.float64))
    found = values_and_gradients(ours, *heads(4, 2, torch.bfloat16))
    for one, exact in zip(found, expected, strict=True):
        assert torch.linalg.norm(one.double() - exact) <= 0.02 * torch.linalg.norm(exact)


def test_the_gradient_of_a_rotation_is_turned_back() -> None:
    shape = Shape(16, 1, 32, 2, 1, 16, 32, 24)
    angles = rotary_tables(shape)
    x = torch.randn(3, 24, 2, 16)

    def by_complex_numbers(x: Tensor) -> Tensor:
        turns = torch.complex(angles[0][..., :8], angles[1][..., 8:])
        turned = torch.complex(x[..., :8], x[..., 8:]) * turns
        return torch.cat([turned.real, turned.imag], dim=-1)

    expected = values_and_gradients(by_complex_numbers, x.clone())
    torch.testing.assert_close(values_and_gradients(lambda x: rotate(x, *angles), x.clone()), expected)
