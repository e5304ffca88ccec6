"""Adapters that were trained elsewhere or before: read, and added to the weights. Several of them beside one model:
model/adapter_rows.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.adapter_config import TENSORS, AdapterConfig, adapter_files, read_adapter_config
from model.lora import BASE, GPT2_JOINED, GPT2_NAMES, PREFIX, maps_of
from model.shape import Shape
from model.transformer import Transformer
from model.weights import check_tensors
from storage.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Change:
    """What is added beside one map: `scale` x `first`ᵀ `second`ᵀ, with first (rank, inputs), second (outputs, rank)."""

    first: Tensor
    second: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that fits a shape: the changes by the names that the maps have here, such as
    model.layers.0.self_attn.q_proj; `base` is the SHA-256 of the weights that it was trained on, None where it does not
    say so, and `where` its folder."""

    where: Path
    config: AdapterConfig
    changes: Mapping[str, Change]
    base: str | None

    def check_base(self, digests: Sequence[str], what: str) -> None:
        """Raise DataError where it says that it was trained on weights of none of these digests; `what` names them."""
        if self.base is not None and self.base not in digests:
            raise DataError(
                f"{self.where}: this adapter was trained on other weights than those of {what}: give the model that it "
                "was trained on"
            )


def read_adapter(folder: Path, shape: Shape) -> Adapter:
    """The adapter of a folder in PEFT's form, for models of a shape.

    ConfigError for a kind or a target that is not known here; DataError where it cannot be read, does not fit, or holds
    numbers that are not finite.
    """
    adapter_files(folder)
    config = read_adapter_config(folder)
    try:
        with safe_open(folder / TENSORS, "pt") as file:
            tensors = {name.removeprefix(PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            base = (file.metadata() or {}).get(BASE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / TENSORS}: no adapter that can be read ({error})") from error
    wanted = _wanted(folder, config, shape, tensors)
    check_tensors(f"{folder}: this adapter does not fit a {shape.family} model of this shape", wanted, tensors)
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating_point or not torch.isfinite(tensor).all():
            raise DataError(f"{folder / TENSORS}: {name} holds what is not a finite number: take another copy")
    changes: dict[str, Change] = {}
    for theirs, ours in _maps_there(shape).items():
        if f"{theirs}.lora_A.weight" in tensors:
            first = tensors[f"{theirs}.lora_A.weight"].float()
            parts = tensors[f"{theirs}.lora_B.weight"].float().chunk(len(ours))
            scale = config.scale_of(theirs)
            changes |= {one: Change(first, part, scale) for one, part in zip(ours, parts, strict=True)}
    return Adapter(folder, config, changes, base)


@torch.no_grad()
def add_adapter(weights: Mapping[str, Tensor], adapter: Adapter) -> None:
    """Add an adapter to the weights of the maps that it changes, in place: the model that does the same alone."""
    for name, change in adapter.changes.items():
        weights[f"{name}.weight"] += change.scale * (change.second @ change.first)


def _wanted(folder: Path, config: AdapterConfig, shape: Shape, there: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that an adapter must have, on the meta device, by the names that they have in transformers."""
    known = _maps_there(shape)
    if config.targets is None:  # a pattern of names: the file says which they are
        adapted = [name for name in known if f"{name}.lora_A.weight" in there]
    else:
        for target in config.targets:
            if not any(_ends_with(name, target) for name in known):
                has = ", ".join(sorted({name.rpartition(".")[2] for name in known}))
                raise ConfigError(f"{folder}: target_modules: a {shape.family} model has no map {target}; it has {has}")
        adapted = [name for name in known if any(_ends_with(name, target) for target in config.targets)]
    wanted: dict[str, Tensor] = {}
    with torch.device("meta"):
        sizes = {name: inner.weight.shape for name, _, _, inner in maps_of(Transformer(shape))}
        for name in adapted:
            rank, outputs = config.rank_of(name), sum(sizes[one][0] for one in known[name])
            wanted[f"{name}.lora_A.weight"] = torch.empty(rank, sizes[known[name][0]][1])
            wanted[f"{name}.lora_B.weight"] = torch.empty(outputs, rank)
    return wanted


def _maps_there(shape: Shape) -> dict[str, tuple[str, ...]]:
    """The names of the maps of the blocks in transformers, and here: GPT-2 has queries, keys and values in one."""
    with torch.device("meta"):
        ours = [name for name, _, _, _ in maps_of(Transformer(shape))]
    if shape.family != "gpt2":
        return {name: (name,) for name in ours}
    named: dict[str, tuple[str, ...]] = {}
    for layer in range(shape.layers):
        begin, there = f"model.layers.{layer}", f"transformer.h.{layer}"
        named[f"{there}.attn.c_attn"] = tuple(f"{begin}.{name}" for name in GPT2_JOINED)
        named |= {f"{there}.{theirs}": (f"{begin}.{name}",) for name, theirs in GPT2_NAMES.items()}
    return named


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
