"""Several adapters beside one model: many fine-tuned models from one copy of the weights, in one batch.

Each row of a batch names its adapter, or none. A map W then gives x Wᵀ + x Aᵀ Bᵀ with the row's own A and B (as Chen et
al. 2023, Punica, arXiv 2310.18547). On a CPU two products for the whole batch are faster than small ones for each row:
the A of all adapters that some row has stand one below the other, as do their B, and between the two products what is
not of the row's own adapter is set to zero. A row's logits are those of the merged model but for the last digits; those
of a row without an adapter are what they are beside none, since what is added to them is zero.

Cost: C = the ranks of the adapters in the batch, summed up, times (inputs + outputs) products a map and token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from model.adapters import Adapter, read_adapter
from model.decoding import JoinedLinear
from model.lora import maps_of
from model.shape import WEIGHTS
from model.transformer import Linear, Transformer
from storage.canonical import digest_file
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True)
class _Factors:
    """What one adapter adds beside one map, in the outputs from `begin` to `end`: x first, times second; `first`
    (inputs, rank), `second` (rank, outputs), which the scale is in."""

    begin: int
    end: int
    first: Tensor
    second: Tensor

    @property
    def bytes(self) -> int:
        return sum(one.numel() * one.element_size() for one in (self.first, self.second))


@dataclass(frozen=True, slots=True)
class _Change:
    """What all adapters of a batch add beside one map.

    `first` (inputs, C) has the factors of all, `seconds` those of each part of the outputs, one below the other, in the
    same order. `columns` are the adapters by number, each with its rank there; `own` (B, 1, C) is 1 where a column is
    of the row's adapter; None: all are.
    """

    first: Tensor
    seconds: tuple[tuple[int, int, Tensor], ...]
    columns: tuple[tuple[int, int], ...]
    own: Tensor | None = None


_Changes = Mapping[str, _Change]  # by the names of the maps


class _Chosen:
    """What is added in the passes that follow."""

    def __init__(self) -> None:
        self.changes: _Changes = {}


class SharedLinear(Linear):
    """A map beside which adapters stand; `parts` are the names and outputs of the maps that were joined in it."""

    def __init__(self, inner: Linear, name: str, chosen: _Chosen) -> None:
        outputs, inputs = inner.weight.shape
        with torch.device("meta"):
            super().__init__(inputs, outputs)
        self.weight, self.bias, self.name, self.chosen = inner.weight, inner.bias, name, chosen
        self.parts = _parts(inner, name)

    def forward(self, x: Tensor) -> Tensor:
        product, change = super().forward(x), self.chosen.changes.get(self.name)
        if change is None:
            return product
        inner = x @ change.first
        if change.own is not None:
            inner *= change.own
        rows, columns, place = product.flatten(0, 1), inner.flatten(0, 1), 0
        for begin, end, second in change.seconds:
            rows[:, begin:end].addmm_(columns[:, place : place + len(second)], second)
            place += len(second)
        return product


class Adapters:
    """Adapters by name beside a model, whose weights came from the folder `base` and stay as they are.

    `choose` says for the passes that follow which row has which; before the first one no row has any.
    """

    def __init__(self, model: Transformer, base: Path) -> None:
        self._model, self._base = model, base
        self.base_digest = digest_file(base / WEIGHTS)
        self._chosen = _Chosen()
        self._factors: dict[str, dict[str, tuple[_Factors, ...]]] = {}  # by adapter and map
        self._alone: dict[str, _Changes] = {}
        self._stacked: tuple[tuple[str, ...], _Changes] = ((), {})  # the last ones that were in one batch
        self._mixed: tuple[tuple[str | None, ...], _Changes] = ((), {})  # the last rows that had not all the same

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._alone)

    def bytes_of(self, name: str) -> int:
        """The memory of one: its matrices as a part of each map has them, as a whole map has them, and once more while
        it is in a batch with others."""
        return 3 * sum(one.bytes for factors in self._factors[name].values() for one in factors)

    @torch.no_grad()
    def add(self, name: str, folder: Path) -> None:
        """Read an adapter and put it beside the others; errors as of `read_adapter`, DataError too for one of other
        weights, and nothing is added. A name that is there already is replaced."""
        adapter = read_adapter(folder, self._model.shape)
        adapter.check_base([self.base_digest], str(self._base))
        factors: dict[str, tuple[_Factors, ...]] = {}
        for map_name, parent, own, inner in list(maps_of(self._model)):
            if found := _factors(adapter, map_name, inner, self._model.compute_dtype):
                factors[map_name] = found
                if not isinstance(inner, SharedLinear):
                    setattr(parent, own, SharedLinear(inner, map_name, self._chosen))
        self._factors[name], self._alone[name] = factors, _together([factors])
        self._chosen.changes, self._stacked, self._mixed = {}, ((), {}), ((), {})

    def choose(self, names: Sequence[str | None]) -> None:
        """The adapter of each row (None: the base model alone); one name is that of all rows. ConfigError for a name
        that was not added."""
        for name in names:
            self.check(name)
        different = set(names)
        if different <= {None}:
            self._chosen.changes = {}
        elif len(different) == 1:
            self._chosen.changes = self._alone[str(names[0])]
        else:
            if self._mixed[0] != tuple(names):
                self._mixed = tuple(names), self._of_rows(names)
            self._chosen.changes = self._mixed[1]

    def check(self, name: str | None) -> None:
        """Raise ConfigError for the name of no adapter here; None is the base model."""
        if name is not None and name not in self._alone:
            known = ", ".join(self.names) or "none"
            raise ConfigError(f"no adapter {name!r} stands beside this model. There are: {known}")

    def _of_rows(self, names: Sequence[str | None]) -> _Changes:
        used = tuple(name for name in self._alone if name in names)
        if self._stacked[0] != used:
            self._stacked = used, _together([self._factors[name] for name in used])
        numbers = torch.tensor([-1 if name is None else used.index(name) for name in names], device=self._model.device)
        own: dict[tuple[tuple[int, int], ...], Tensor] = {}  # most maps have the same columns as others
        for change in self._stacked[1].values():
            if change.columns not in own:
                owners = [number for number, rank in change.columns for _ in range(rank)]
                mask = numbers[:, None] == torch.tensor(owners, device=numbers.device)
                own[change.columns] = mask[:, None].to(self._model.compute_dtype)
        return {name: replace(change, own=own[change.columns]) for name, change in self._stacked[1].items()}


def _factors(adapter: Adapter, map_name: str, inner: Linear, dtype: torch.dtype) -> tuple[_Factors, ...]:
    """What an adapter adds beside a map, or beside those that were joined in it."""
    module, factors, begin = map_name.rpartition(".")[0], list[_Factors](), 0
    for name, outputs in _parts(inner, map_name):
        end = begin + outputs
        if (change := adapter.changes.get(f"{module}.{name}")) is not None:
            first, second = change.first.mT, change.scale * change.second.mT
            factors.append(_Factors(begin, end, *(one.to(inner.weight.device, dtype) for one in (first, second))))
        begin = end
    return tuple(factors)


def _parts(inner: Linear, name: str) -> tuple[tuple[str, int], ...]:
    if isinstance(inner, JoinedLinear | SharedLinear):
        return inner.parts
    return ((name.rpartition(".")[2], inner.weight.shape[0]),)


def _together(adapters: Sequence[Mapping[str, Sequence[_Factors]]]) -> _Changes:
    """What several adapters add beside each map."""
    changes = {}
    for name in dict.fromkeys(name for factors in adapters for name in factors):
        parts: dict[tuple[int, int], list[tuple[int, _Factors]]] = {}
        for number, factors in enumerate(adapters):
            for one in factors.get(name, ()):
                parts.setdefault((one.begin, one.end), []).append((number, one))
        ordered = [pair for part in parts.values() for pair in part]
        changes[name] = _Change(
            torch.cat([one.first for _, one in ordered], dim=1).contiguous(),
            tuple((*part, torch.cat([one.second for _, one in pairs])) for part, pairs in parts.items()),
            tuple((number, len(one.second)) for number, one in ordered),
        )
    return changes
