"""Adapters that were trained elsewhere or before: read, added to the weights, or several of them beside one base model.

`Adapters` serves many fine-tuned models from one copy of the weights: each row of a batch names its adapter, or none.
A map then gives x Wᵀ + x Aᵀ Bᵀ with the row's own A and B (as Chen et al. 2023, Punica, arXiv 2310.18547), where
adapters of lower rank, and rows without one, have zeros. A row's logits are those of the merged model but for the last
digits. Cost: two products with rank columns a map, and a copy of the rows' small matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.adapter_config import TENSORS, AdapterConfig, adapter_files, read_adapter_config
from model.lora import BASE, GPT2_JOINED, GPT2_NAMES, PREFIX, maps_of
from model.shape import WEIGHTS, Shape
from model.transformer import Linear, Transformer
from model.weights import check_tensors
from storage.canonical import digest_file
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


# Several beside one model -------------------------------------------------------------------------------------------


class _Rows:
    """Which adapter each row of the batch has, by number; None: no row has any."""

    numbers: Tensor | None = None


class SharedLinear(Linear):
    """A map with the changes of several adapters beside it; those of number 0 are nothing."""

    first: Tensor
    second: Tensor

    def __init__(self, inner: Linear, rows: _Rows) -> None:
        outputs, inputs = inner.weight.shape
        with torch.device("meta"):
            super().__init__(inputs, outputs)
        self.weight, self.bias, self.rows = inner.weight, inner.bias, rows
        self.register_buffer("first", inner.weight.new_zeros(0, 0, inputs), persistent=False)
        self.register_buffer("second", inner.weight.new_zeros(0, outputs, 0), persistent=False)

    def put(self, changes: Sequence[Change | None]) -> None:
        """Have these, by their numbers."""
        rank = max((len(change.first) for change in changes if change is not None), default=0)
        self.first = self.weight.new_zeros(len(changes), rank, self.weight.shape[1])
        self.second = self.weight.new_zeros(len(changes), self.weight.shape[0], rank)
        for number, change in enumerate(changes):
            if change is not None:
                self.first[number, : len(change.first)] = change.first
                self.second[number, :, : len(change.first)] = change.scale * change.second

    def forward(self, x: Tensor) -> Tensor:
        product = super().forward(x)
        if self.rows.numbers is None:
            return product
        first, second = self.first[self.rows.numbers], self.second[self.rows.numbers]
        return product + (x @ first.mT.to(x.dtype)) @ second.mT.to(x.dtype)


class Adapters:
    """Adapters by name beside a model, whose weights came from the folder `base` and stay as they are.

    `choose` says for the passes that follow which row has which; before the first one no row has any.
    """

    def __init__(self, model: Transformer, base: Path) -> None:
        self._model, self._base = model, base
        self._digest = digest_file(base / WEIGHTS)
        self._rows = _Rows()
        self._adapters: dict[str, Adapter] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._adapters)

    @torch.no_grad()
    def add(self, name: str, folder: Path) -> None:
        """Read an adapter and put it beside the others; errors as of `read_adapter`, DataError too for one of other
        weights, and nothing is added. A name that is there already is replaced."""
        adapter = read_adapter(folder, self._model.shape)
        adapter.check_base([self._digest], str(self._base))
        self._adapters[name] = adapter
        self._rows.numbers = None
        for map_name, parent, own, inner in list(maps_of(self._model)):
            changes = [None, *(one.changes.get(map_name) for one in self._adapters.values())]
            if isinstance(inner, SharedLinear) or any(change is not None for change in changes):
                shared = inner if isinstance(inner, SharedLinear) else SharedLinear(inner, self._rows)
                shared.put(changes)
                setattr(parent, own, shared)

    def choose(self, names: Sequence[str | None]) -> None:
        """The adapter of each row (None: the base model alone); one name is that of all rows. ConfigError for a name
        that was not added."""
        for name in names:
            if name is not None and name not in self._adapters:
                known = ", ".join(self.names) or "none"
                raise ConfigError(f"no adapter {name!r} stands beside this model. There are: {known}")
        numbers = [0 if name is None else 1 + self.names.index(name) for name in names]
        self._rows.numbers = torch.tensor(numbers, device=self._model.device) if any(numbers) else None
