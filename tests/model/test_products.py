"""Products without gradients are those with them, for any shape; where gradients are asked for, there are some."""

import pytest
import torch

from model.products import linear


@pytest.mark.parametrize("shape", [(1, 40), (3, 5, 40), (16, 40), (2, 33, 97), (64, 1), (0, 8)])
@pytest.mark.parametrize("outputs", [1, 7, 56])
def test_products_without_gradients_are_exact_to_rounding(shape: tuple[int, ...], outputs: int) -> None:
    x, weight = torch.randn(shape), torch.randn(outputs, shape[-1])
    exact = x.double() @ weight.double().T
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight).double(), exact, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(
            linear(x.transpose(0, -1).contiguous().transpose(0, -1), weight).double(), exact, rtol=1e-5, atol=1e-4
        )


def test_gradients_flow_where_they_are_asked_for() -> None:
    x, weight = torch.randn(32, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    linear(x, weight).sum().backward()
    assert x.grad is not None and weight.grad is not None
