"""Matrix products where no gradient is asked for.

torch multiplies float32 on a CPU by MKL, which leaves half of the width of another maker's vectors unused: with AVX-512
on AMD oneDNN, which torch brings too, is 2.3 times as fast (benchmarks/scorer_speed.py). On Intel's own it is slower.
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_ROWS = 16  # with fewer, as in decoding, MKL is the faster one for small matrices (measured)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., K) times the transpose of weight (N, K): (..., N)."""
    if (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not torch.compiler.is_exporting()
        and _has_wide_vectors_of_others()
    ):
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


@functools.cache
def _has_wide_vectors_of_others() -> bool:
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processor = Path("/proc/cpuinfo")
    return not (processor.is_file() and "GenuineIntel" in processor.read_text(encoding="utf-8"))


def lay_out_for_decoding(model: nn.Module) -> None:
    """Turn the matrices of linear maps and embeddings in memory, not in value: a few rows by a matrix that lies so cost
    half the time with MKL, which else has to turn it for each product (benchmarks/serving_speed.py)."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = module.weight.data.t().contiguous().t()
