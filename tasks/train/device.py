"""What a machine can do for a training: its device, number format, and whether compiling pays."""

import os
import shutil
import sysconfig
from pathlib import Path

from model.processor import has_wide_vectors_of_others, is_fast_in_bfloat16, processor
from storage.errors import ConfigError

# Floating-point operations of a run: a minute on an H200, ten on a core that is fast in bfloat16. A third is saved.
COMPILING_PAYS, COMPILING_PAYS_ON_A_CPU = 2e16, 1e14

COMPILER = "a C compiler and Python's headers (Debian: gcc libc6-dev python3-dev)"
COMPILER_FOR_A_CPU = "a C++ compiler and Python's headers (Debian: g++ python3-dev)"


def training_device(requested: str) -> str:
    """`cpu` or `cuda`: what `auto` means on this machine, found without importing torch."""
    if requested != "auto":
        return requested
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def training_dtype(requested: str, device: str) -> str:
    """What `auto` means on a device, by a table of what it can do: bfloat16 where products run faster in it, on GPUs
    and some CPUs (model/processor.py)."""
    if requested != "auto":
        return requested
    return "bfloat16" if device.startswith("cuda") or is_fast_in_bfloat16(*processor()) else "float32"


def float32_arithmetic(dtype: str, device: str) -> dict[str, str]:
    """What of a training in float32 this CPU carries out otherwise than others: fields of its job, and parts of its
    stage's key, since the last digits of its weights are others; empty where it is nothing.

    Muon's products are in bfloat16 where that is fast: they are exact enough for it, and with few tokens a step they
    would be a third of the time. All products go through oneDNN where MKL is slow; with AMX it would round them to
    bfloat16, without it leaves a relative error of 4e-7.
    """
    if dtype != "float32" or device != "cpu":
        return {}
    vendor, flags = processor()
    found = {"optimizer_dtype": "bfloat16"} if is_fast_in_bfloat16(vendor, flags) else {}
    if has_wide_vectors_of_others(vendor, flags) and not any(flag.startswith("amx") for flag in flags):
        found["products"] = "oneDNN"
    return found


def training_compiles(requested: str, device: str, dtype: str, flop: float) -> bool:
    """Whether a run of so many floating-point operations has its operations fused.

    `auto` asks whether it is worth the time that compiling takes, and whether what it needs is there; `on` raises
    ConfigError where that is missing.
    """
    if requested == "off" or (requested == "auto" and not compiling_pays(device, dtype, flop)):
        return False
    missing = missing_for_compiling(device)
    if requested == "on" and missing:
        install = f"Install {_compiler(device)}, or set pretrain.compile to auto or off"
        raise ConfigError(f"pretrain.compile is on, but {missing}. {install}")
    return not missing


def compiling_pays(device: str, dtype: str, flop: float) -> bool:
    """On a GPU, and on a CPU in bfloat16: in float32 products are nearly all of the time, and little is saved."""
    if device.startswith("cuda"):
        return flop >= COMPILING_PAYS
    return dtype == "bfloat16" and flop >= COMPILING_PAYS_ON_A_CPU


def _compiler(device: str) -> str:
    return COMPILER if device.startswith("cuda") else COMPILER_FOR_A_CPU


def slower_than_compiled(requested: str, device: str, dtype: str, flop: float) -> str | None:
    """The sentence for a run that `auto` would compile, if what compiling needs were there; else None."""
    if requested != "auto" or not compiling_pays(device, dtype, flop):
        return None
    missing = missing_for_compiling(device)
    return missing and (
        f"pretrain is not compiled, which costs a third of its speed: {missing}. Install {_compiler(device)}; "
        "pretrain.compile=off keeps this from being said"
    )


def missing_for_compiling(device: str = "cuda") -> str | None:
    """What torch.compile needs on a device and would not find on this machine; None where all is there.

    On a GPU its backend builds a small extension module of Python, by the compiler that CC names, else gcc, else clang;
    on a CPU it writes C++, for the compiler that CXX names, else g++.
    """
    variable, kind, usual = ("CC", "C", ["gcc", "clang"]) if device.startswith("cuda") else ("CXX", "C++", ["g++"])
    named = os.environ.get(variable)
    if not any(map(shutil.which, [named] if named else usual)):
        which = f"{named} ({variable})" if named else f"({' or '.join(usual)})"
        return f"there is no {kind} compiler {which}"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are missing (Python.h)"
    return None
