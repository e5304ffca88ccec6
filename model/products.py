"""Matrix products and norms where no gradient is asked for.

torch multiplies float32 on a CPU by MKL, which leaves half of the width of another maker's vectors unused: with AVX-512
on AMD oneDNN, which torch brings too, is 2.3 times as fast (benchmarks/scorer_speed.py). On Intel's own it is slower.
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_ROWS = 16  # with fewer, as in decoding, MKL is the faster one for small matrices (measured)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., K) times the transpose of weight (N, K): (..., N)."""
    if _has_wide_vectors_of_others() and x.numel() >= FEWEST_ROWS * x.shape[-1] and _is_plain(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def rms_norm(x: Tensor, gain: Tensor | None, epsilon: float) -> Tensor:
    """x (..., K) divided by the root mean square over the last dimension, times a gain (K,) where there is one.

    torch's own is seven operations on a CPU; these are five.
    """
    if not _is_plain(x):
        return F.rms_norm(x, x.shape[-1:], None if gain is None else gain.to(x.dtype), epsilon)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    normalised = x * torch.addcmul(_number(epsilon), length, length, value=1 / x.shape[-1]).rsqrt_()
    return normalised if gain is None else normalised.mul_(gain)


@functools.cache
def _number(value: float) -> Tensor:
    return torch.tensor(value)


def _is_plain(x: Tensor) -> bool:
    """Whether it is float32 on a CPU, and nobody asks for gradients or for the graph."""
    return not torch.is_grad_enabled() and x.is_cpu and x.dtype == torch.float32 and not torch.compiler.is_exporting()


@functools.cache
def _has_wide_vectors_of_others() -> bool:
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processor = Path("/proc/cpuinfo")
    return not (processor.is_file() and "GenuineIntel" in processor.read_text(encoding="utf-8"))
