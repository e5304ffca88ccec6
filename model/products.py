"""Matrix products where no gradient is asked for.

torch multiplies float32 on a CPU by MKL, which leaves half of the width of another maker's vectors unused: with AVX-512
on AMD oneDNN, which torch brings too, is 2.3 times as fast (benchmarks/scorer_speed.py).
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_ROWS = 16  # with fewer, as in decoding, MKL is the faster one for small matrices (measured)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., K) times the transpose of weight (N, K): (..., N)."""
    if (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not torch.compiler.is_exporting()
        and _has_wide_vectors()
    ):
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


@functools.cache
def _has_wide_vectors() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
