"""Several CPU threads by splitting the batch, not the operations.

Each worker thread forwards and differentiates rows of its own with one-threaded operations; gradients are added in
order of the workers, so that a sum never depends on who was first. Torch's own threads meet at the end of every
operation, thousands of times a step: measured on two cores, they are as fast while nobody else wants a core and ten
to thirty times slower beside a busy one, where one side spins for a thread that the system has put aside. Workers
meet twice a step.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from model.batches import Batch
from model.transformer import Transformer

if TYPE_CHECKING:
    from model.loss import Loss

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """A fixed number of threads; with one, work is done in the caller's.

    `compile_first`: the first gradients are taken in the caller's thread, a share after the other, since they compile.
    Of two threads that meet the same code at once one would run it as it is, and round otherwise.
    """

    def __init__(self, count: int, compile_first: bool = False) -> None:
        self.count, self.compile_first = count, compile_first
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) if count > 1 else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results in order of the items."""
        return list(self.stream(function, items))

    def stream(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The same, each as soon as it and those before it are there."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations of the caller's thread have one thread while the block lasts: right for small matrices."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def add_gradients(
    model: Transformer, rows: Batch | None, losses: int, micro_batch_tokens: int, loss: "Loss", workers: Workers
) -> torch.Tensor:
    """Set the gradient of every parameter that is trained to that of the summed loss of rows, divided by `losses`;
    returns the sum. Without rows both are zero.

    `losses` are those of the whole batch, which rows are of: its valid targets or its preferences. So neither a split
    into parts nor a part that is wholly masked changes or breaks the gradient.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def differentiate(share: Batch) -> tuple[torch.Tensor, list[Any]]:
        lost = torch.zeros((), device=model.device)
        sums: list[Any] = []
        for part in share.split(micro_batch_tokens):
            summed = loss(model, part)
            gradients = torch.autograd.grad(summed / losses, parameters)
            sums = _added(sums, gradients)
            lost += summed.detach()
        return lost, sums

    total = torch.zeros((), device=model.device)
    sums: list[Any] = [] if rows else [torch.zeros_like(parameter) for parameter in parameters]
    run, shares = map if workers.compile_first else workers.map, rows.share(workers.count) if rows else []
    for lost, gradients in run(differentiate, shares):
        total += lost
        sums = _added(sums, gradients)
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient
    workers.compile_first = False
    return total


def _added(sums: list[Any], gradients: Sequence[Any]) -> list[Any]:
    if not sums:
        return list(gradients)
    torch._foreach_add_(sums, gradients)
    return sums
