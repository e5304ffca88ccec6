"""What the CPU of this machine can do, without importing torch."""

import contextlib
from pathlib import Path

WIDE_VECTORS = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


def processor() -> tuple[str, set[str]]:
    """Vendor and instruction sets of the CPU; empty where the system does not say."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields.get("vendor_id", ""), set(fields.get("flags", "").split())


def is_fast_in_bfloat16(vendor: str, flags: set[str]) -> bool:
    """CPUs with AMX; AMD's with AVX512-BF16 (measured on Zen 4: products 2.2 times, a whole step 1.5 times as fast, the
    same loss). Intel's with AVX512-BF16 but no AMX are half as fast in it as in float32."""
    return "amx_bf16" in flags or (vendor == "AuthenticAMD" and "avx512_bf16" in flags)


def has_wide_vectors_of_others(vendor: str, flags: set[str]) -> bool:
    """AVX-512 that is not Intel's: MKL leaves half of its width unused."""
    return flags >= WIDE_VECTORS and vendor not in ("", "GenuineIntel")
