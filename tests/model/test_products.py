"""Products without gradients are those with them, for any shape; norms and their gradients are torch's in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from model.products import linear, rms_norm


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("shape", [(2, 33, 40), (5, 3, 2, 8), (1, 7)])
def test_the_norm_and_its_gradients_are_exact_to_rounding(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    x, outer = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype) + 1  # whose mean is not 0
    gain, size = torch.rand(shape[-1]) + 0.5, shape[-1]

    def of(norm: Callable[..., torch.Tensor], kind: torch.dtype) -> list[torch.Tensor]:
        inputs = [x.to(kind).requires_grad_(), gain.to(torch.promote_types(kind, torch.float32)).requires_grad_()]
        normalised = norm(*inputs)
        return [normalised, *torch.autograd.grad(normalised, inputs, outer.to(kind))]

    exact = of(lambda x, gain: F.rms_norm(x, (size,), gain, 1e-3), torch.float64)
    found = of(lambda x, gain: rms_norm(x, gain, 1e-3), dtype)
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.linalg.norm(ours.double() - theirs) <= tolerance * torch.linalg.norm(theirs)
    with torch.no_grad():
        assert torch.equal(rms_norm(x, gain, 1e-3), found[0])
