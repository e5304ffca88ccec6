"""Muon for the matrices inside the blocks, AdamW for embeddings, head and norms, behind one object.

Which rule trains a parameter follows from its shape and place, never from its name: matrices of the blocks (what stands
in an `nn.ModuleList`) go to Muon, all else to AdamW, adapters' factors too. What needs no gradient is left alone.
Embeddings that are not the head too can have a rate of their own: a step moves only the rows of its tokens, and so the
best rate is many times that of a head, all of whose rows each token moves.

Muon (Jordan et al. 2024) replaces a matrix's momentum by one whose singular values are near 1. Ours is found by three
steps of Newton-Schulz' kind (`orthogonalise`): five take longer and train no better (docs/experiments.md). Matrices of
equal shape, transposed where taller than wide, are stacked and handled by batched products: on a small model that is
the difference between a tenth and a half of a training step. Where several processes train together, each works out
the updates of some matrices (model/ranks.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from model.lora import Factor
from model.ranks import Ranks

# Of a x + b x^3 + c x^5, step by step: the polynomial that is nearest to 1 on all singular values that there may be
# then, from 0.02 to 1 at first (Polar Express, Amsel et al. 2025). They bring these to within 0.1 of 1. Those that
# begin lower leave a slope at 1, by which a matrix's largest singular value makes much of rounding.
POLYNOMIALS = (
    (7.7110, -22.1138, 16.2487),
    (3.2153, -2.4112, 0.5013),
    (2.2183, -1.5940, 0.4107),
)
ROOM = 1.02  # rounding must not push a singular value above 1, from where the polynomials lead away
CACHE_BYTES = 3 << 19  # of a CPU core, for the matrices that it works on


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Peak rates, and what the two rules need; decay is decoupled and falls on matrices only.

    `embedding_rate` is that of embeddings, head and norms; embeddings have `embedding_factor` times it.
    """

    matrix_rate: float
    embedding_rate: float
    embedding_factor: float = 1.0
    momentum: float = 0.95
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Push the singular values of each matrix (n, rows <= columns) towards 1, in the given dtype.

    First a matrix is divided by the fourth root of the sum of its singular values' fourth powers, the norm of its
    products with itself: no singular value is above 1 then, and the small ones are less small than where it is divided
    by its own norm. Were rows scaled one by one (Prach and Lampert 2022), one of rounding alone would count as others.
    """
    x = matrices.to(dtype)
    gram = x @ x.mT
    norm = torch.linalg.matrix_norm(gram.float(), keepdim=True).sqrt() * ROOM + 1e-9
    x, gram = x * (1 / norm).to(dtype), gram * (1 / norm**2).to(dtype)
    for step, (a, b, c) in enumerate(POLYNOMIALS):
        if step:
            gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


class MuonGroup:
    """Matrices of one shape up to transposition, in one stack (n, rows <= columns), dealt to the ranks: each keeps the
    momentum of its own and works out their updates."""

    def __init__(self, parameters: list[nn.Parameter], dtype: torch.dtype, ranks: Ranks) -> None:
        self.parameters, self.dtype, self.ranks = parameters, dtype, ranks
        self.own = ranks.rows(len(parameters))
        rows, columns = sorted(parameters[0].shape)
        self.momentum = torch.zeros(self.own.stop - self.own.start, rows, columns, device=parameters[0].device)
        self._stacks = {stack.stop: stack for stack in self._stacked()}

    @torch.no_grad()
    def update(self, momentum: float) -> Tensor:
        """The directions of this rank's own matrices."""
        directions = torch.empty_like(self.momentum, dtype=self.dtype)
        taken = zip(self.momentum, self._gradients(), directions, strict=True)
        for end, (held, gradient, direction) in enumerate(taken, start=1):
            held.lerp_(gradient, 1 - momentum)
            direction.copy_(gradient.lerp(held, momentum))
            if end in self._stacks:
                stack = directions[self._stacks[end]]
                stack.copy_(orthogonalise(stack, self.dtype))
        return directions

    @torch.no_grad()
    def apply(self, update: Tensor, rate: float, weight_decay: float) -> None:
        """Move what this rank holds of all matrices by the directions that all ranks have worked out."""
        for parameter, matrix in zip(self.parameters, self.ranks.joined(update, len(self.parameters)), strict=True):
            outputs, inputs = parameter.shape
            held = self.ranks.local(parameter)
            if weight_decay:
                held.mul_(1 - rate * weight_decay)
            direction = matrix.mT if outputs > inputs else matrix
            rows = self.ranks.rows(outputs) if self.ranks.sharded else slice(None)
            held.sub_(direction[rows].to(held.dtype), alpha=rate * max(1.0, outputs / inputs) ** 0.5)

    def _stacked(self) -> Iterator[slice]:
        """Which of this rank's matrices are handled together: on a CPU as many as its cache holds, but two at least,
        since one alone goes by slower products there."""
        count, parts = len(self.momentum), 1
        if count and not self.momentum.is_cuda:
            held = self.momentum.numel() * self.dtype.itemsize
            parts = max(1, min(count // 2, -(-held // CACHE_BYTES)))
        ends = [place * count // parts for place in range(parts + 1)]
        yield from map(slice, ends, ends[1:])

    def _gradients(self) -> Iterator[Tensor]:
        """Those of this rank's own matrices, whole. To be taken to its end on every rank: all take part in each."""
        for place, parameter in enumerate(self.parameters):
            gradient = self.ranks.whole(_gradient(parameter))  # by all ranks, also of what is not theirs
            if self.own.start <= place < self.own.stop:
                yield _wide(gradient).contiguous()


class AdamWGroup:
    """Parameters that AdamW trains, without decay, and what it keeps of each: `step`, `exp_avg` and `exp_avg_sq`.

    The rule is torch's own, as a function: `torch.optim.AdamW` imports torch's compiler when it is made, which takes
    1.8 s of CPU time in the process of every training.
    """

    def __init__(self, parameters: list[nn.Parameter], ranks: Ranks, factor: float = 1.0) -> None:
        self.parameters, self.ranks, self.factor = parameters, ranks, factor
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float, beta1: float, beta2: float) -> None:
        """Of what this rank holds, at `factor` times the rate: the rule goes number by number."""
        updated = [parameter for parameter in self.parameters if parameter.grad is not None]
        held = [self.ranks.local(parameter) for parameter in updated]
        for parameter, numbers in zip(updated, held, strict=True):
            if parameter not in self.state:
                moments = {key: torch.zeros_like(numbers) for key in ("exp_avg", "exp_avg_sq")}
                self.state[parameter] = {"step": torch.zeros((), device=numbers.device), **moments}
        states = [self.state[parameter] for parameter in updated]
        adamw(
            held,
            [self.ranks.local(_gradient(parameter)) for parameter in updated],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],  # of AMSGrad
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=rate * self.factor,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


class Optimizer:
    """Both rules over the parameters of one model; `state` and `load_state` exchange flat named tensors.

    `dtype` is that of Muon's products: bfloat16 is exact enough for them wherever the model computes in it, and with
    few tokens a step they are a third of the time. State and updates are float32.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerSettings,
        dtype: torch.dtype = torch.float32,
        ranks: Ranks | None = None,
    ) -> None:
        self.settings = settings
        self.ranks = ranks or Ranks()
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names: dict[nn.Parameter, str] = {parameter: name for name, parameter in trained}
        matrices, embeddings = block_matrices(model), _embeddings(model)
        shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
        others: dict[float, list[nn.Parameter]] = {}  # by the factor of their rate
        for _, parameter in trained:
            if parameter in matrices:
                shapes.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
            else:
                factor = settings.embedding_factor if parameter in embeddings else 1.0
                others.setdefault(factor, []).append(parameter)
        self.muon = [MuonGroup(parameters, dtype, self.ranks) for parameters in shapes.values()]
        self.adamw = [AdamWGroup(parameters, self.ranks, factor) for factor, parameters in others.items()]

    def step(self, factor: float, run: Callable[..., Iterable[Any]] = map) -> None:
        """Update every parameter from its gradient at `factor` times the peak rates.

        `run` carries out the independent groups of matrices as `map` does, side by side if it can.
        """
        settings = self.settings
        updates = list(run(lambda group: group.update(settings.momentum), self.muon))
        for group, update in zip(self.muon, updates, strict=True):
            group.apply(update, settings.matrix_rate * factor, settings.weight_decay)
        for others in self.adamw:
            others.step(settings.embedding_rate * factor, settings.beta1, settings.beta2)

    def clip(self) -> float:
        """Scale the gradients down to `clip_norm` where together they are longer; returns how long they were."""
        held, longest = [p.grad for p in self.names if p.grad is not None], self.settings.clip_norm
        norm = self.ranks.whole(torch.nn.utils.get_total_norm(held))
        length = float(norm)
        if length > longest:  # a pass over all of them is saved elsewhere
            torch.nn.utils.clip_grads_with_norm_(self.names, longest, norm)
        return length

    def gradients(self) -> list[Tensor]:
        """Those of all parameters, always in one order."""
        return [_gradient(parameter) for parameter in self.names]

    def zero_gradients(self) -> None:
        for parameter in self.names:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """This rank's pieces of all that a resumed run needs, by name."""
        tensors = {f"muon.{index}": group.momentum for index, group in enumerate(self.muon) if len(group.momentum)}
        held = {
            f"adamw.{key}.{self.names[parameter]}": value
            for group in self.adamw
            for parameter, values in group.state.items()
            for key, value in values.items()
        }
        return tensors | self.ranks.pieces(held)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up where `state` left off, from the joined pieces of all ranks, on the devices of the parameters."""
        for index, group in enumerate(self.muon):
            group.momentum.copy_(tensors[f"muon.{index}"][group.own])
        for others in self.adamw:
            for parameter in others.parameters:
                names = {key: f"adamw.{key}.{self.names[parameter]}" for key in ("step", "exp_avg", "exp_avg_sq")}
                others.state.pop(parameter, None)
                if names["step"] in tensors:  # else it was saved before its first step
                    others.state[parameter] = {
                        key: self.ranks.piece(tensors[name]).to(parameter.device) for key, name in names.items()
                    }


def block_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The two-dimensional parameters of a model's blocks, embeddings and adapters excepted."""
    blocks = (block for found in model.modules() if isinstance(found, nn.ModuleList) for block in found)
    modules = (
        module for block in blocks for module in block.modules() if not isinstance(module, nn.Embedding | Factor)
    )
    return {parameter for module in modules for parameter in module.parameters(recurse=False) if parameter.ndim == 2}


def _embeddings(model: nn.Module) -> set[nn.Parameter]:
    tables = (module for module in model.modules() if isinstance(module, nn.Embedding))
    return {parameter for table in tables for parameter in table.parameters()}


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _wide(matrix: Tensor) -> Tensor:
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
