"""What a machine can do for a training: its device, number format, and whether compiling pays."""

import contextlib
import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import ConfigError

if TYPE_CHECKING:
    pass


COMPILING_PAYS = 2e16  # floating-point operations: a minute on an H200 as they are, of which compiling saves a third

COMPILER = "a C compiler and Python's headers (Debian: gcc libc6-dev python3-dev)"


def training_device(requested: str) -> str:
    """`cpu` or `cuda`: what `auto` means on this machine, found without importing torch."""
    if requested != "auto":
        return requested
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def training_dtype(requested: str, device: str) -> str:
    """What `auto` means on a device, by a table of what it can do: bfloat16 where products run faster in it.

    GPUs; CPUs with AMX; AMD's with AVX512-BF16 (measured on Zen 4: products 2.2 times, a whole step 1.5 times as
    fast, the same loss). Intel's CPUs with AVX512-BF16 but no AMX are half as fast in it as in float32.
    """
    if requested != "auto":
        return requested
    if device.startswith("cuda"):
        return "bfloat16"
    vendor, flags = _processor()
    return "bfloat16" if "amx_bf16" in flags or (vendor == "AuthenticAMD" and "avx512_bf16" in flags) else "float32"


def training_compiles(requested: str, device: str, flop: float) -> bool:
    """Whether a run of so many floating-point operations has its operations fused: on a GPU only.

    `auto` asks whether it is worth the time that compiling takes, and whether what it needs is there; `on` raises
    ConfigError where that is missing.
    """
    if not device.startswith("cuda") or requested == "off":
        return False
    missing = missing_for_compiling()
    if requested == "on" and missing:
        raise ConfigError(
            f"pretrain.compile is on, but {missing}. Install {COMPILER}, or set pretrain.compile to auto or off"
        )
    return requested == "on" or (flop >= COMPILING_PAYS and not missing)


def slower_than_compiled(requested: str, device: str, flop: float) -> str | None:
    """The sentence for a run that `auto` would compile, if what compiling needs were there; else None."""
    if not device.startswith("cuda") or requested != "auto" or flop < COMPILING_PAYS:
        return None
    missing = missing_for_compiling()
    return missing and (
        f"pretrain is not compiled, which costs a third of its speed: {missing}. Install {COMPILER}; "
        "pretrain.compile=off keeps this from being said"
    )


def missing_for_compiling() -> str | None:
    """What torch.compile needs on a GPU and would not find on this machine; None where all is there.

    Its backend builds a small extension module of Python, by the compiler that CC names, else gcc, else clang.
    """
    named = os.environ.get("CC")
    if not any(map(shutil.which, [named] if named else ["gcc", "clang"])):
        return f"there is no C compiler {named} (CC)" if named else "there is no C compiler (gcc or clang)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are missing (Python.h)"
    return None


def _processor() -> tuple[str, set[str]]:
    """Vendor and instruction sets of the CPU; empty where the system does not say."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields.get("vendor_id", ""), set(fields.get("flags", "").split())
