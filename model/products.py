"""Matrix products where no gradient is asked for, and norms.

torch multiplies float32 on a CPU by MKL, which leaves half of the width of another maker's vectors unused: with AVX-512
on AMD oneDNN, which torch brings too, is 2.3 times as fast (benchmarks/scorer_speed.py). On Intel's own it is slower.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.processor import has_wide_vectors_of_others, processor

FEWEST_ROWS = 16  # with fewer, as in decoding, MKL is the faster one for small matrices (measured)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., K) times the transpose of weight (N, K): (..., N)."""
    if _is_plain(x) and x.numel() >= FEWEST_ROWS * x.shape[-1] and _has_wide_vectors_of_others():
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def rms_norm(x: Tensor, gain: Tensor | None, epsilon: float) -> Tensor:
    """x (..., K) divided by the root mean square over the last dimension, times a gain (K,) where there is one.

    On a CPU torch's own is seven operations forwards and twice as many backwards, here five and six; together 0.4 of
    its time. A compiler fuses torch's own.
    """
    if not x.is_cpu or torch.compiler.is_compiling():
        return F.rms_norm(x, x.shape[-1:], None if gain is None else gain.to(x.dtype), epsilon)
    if gain is None or not torch.is_grad_enabled():
        return _normalised(x, gain, epsilon)[0]
    normalised: Tensor = RMSNorm.apply(x, gain, epsilon)
    return normalised


class RMSNorm(torch.autograd.Function):
    """The norm with gradients. The backward pass is the kernel of LayerNorm, told that the mean is 0: but for the mean
    of the gradient, which it takes away and RMSNorm does not, the two are one."""

    @staticmethod
    def forward(context: Any, x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
        normalised, scale = _normalised(x, gain, epsilon)
        context.save_for_backward(x, gain, scale)
        return normalised

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gain, scale = context.saved_tensors
        size, (gradient,) = x.shape[-1], gradients
        by_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, [size], torch.zeros_like(scale), scale, gain, None, [True, False, False]
        )
        mean = (gradient @ gain.to(x.dtype)).unsqueeze(-1) * (scale / size)
        # The kernel would add up in bfloat16 what each row says of the gains; a product does not.
        by_gain = scale.to(x.dtype).flatten() @ (gradient * x).flatten(0, -2)
        return by_x.add_(mean.to(x.dtype)), by_gain.to(gain.dtype), None


def _normalised(x: Tensor, gain: Tensor | None, epsilon: float) -> tuple[Tensor, Tensor]:
    """The norm of x (..., K), and what each row was multiplied by for it (..., 1), float32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.addcmul(_number(epsilon), length, length, value=1 / x.shape[-1]).rsqrt_()
    normalised = x * scale.to(x.dtype)
    return normalised if gain is None else normalised.mul_(gain.to(x.dtype)), scale


@functools.cache
def _number(value: float) -> Tensor:
    return torch.tensor(value)


def _is_plain(x: Tensor) -> bool:
    """Whether it is float32 on a CPU, and nobody asks for gradients or for the graph."""
    return not torch.is_grad_enabled() and x.is_cpu and x.dtype == torch.float32 and not torch.compiler.is_exporting()


@functools.cache
def _has_wide_vectors_of_others() -> bool:
    return torch.backends.mkldnn.is_available() and has_wide_vectors_of_others(*processor())
