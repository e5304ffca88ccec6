"""What a machine can do for a training: its device, number format, and whether compiling pays."""

import os
import shutil
import sysconfig
from pathlib import Path

from model.processor import has_wide_vectors_of_others, is_fast_in_bfloat16, processor
from storage.errors import ConfigError

COMPILING_PAYS = 2e16  # floating-point operations: a minute on an H200 as they are, of which compiling saves a third

COMPILER = "a C compiler and Python's headers (Debian: gcc libc6-dev python3-dev)"


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
