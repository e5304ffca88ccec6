"""Products without gradients are those with them, for any shape; norms and their gradients are torch's in float64."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support import ROOT

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


EXACT = """
from types import SimpleNamespace
import torch
from model.start import configure_torch
configure_torch(SimpleNamespace(compiled=False, device="cpu", products="oneDNN", seed=0))
x, weight = torch.randn(300, 96, requires_grad=True), torch.randn(200, 96, requires_grad=True)
outer = torch.randn(300, 200)
found = x @ weight.T
found = [found, *torch.autograd.grad(found, (x, weight), outer)]
x, weight, outer = x.double(), weight.double(), outer.double()
for one, exact in zip(found, (x @ weight.T, outer @ weight, outer.T @ x), strict=True):
    print(float(torch.linalg.norm(one.double() - exact) / torch.linalg.norm(exact)))
"""


def test_products_by_onednn_are_float32_where_the_table_asks_for_them() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}  # none with AMX
    ended = subprocess.run([sys.executable, "-P", "-c", EXACT], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert max(map(float, ended.stdout.split())) < 1e-6
