"""A model whose parameters are dealt out by rows (FSDP2), and its gradients: computed by all ranks in step."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.batches import Batch
from model.ranks import Ranks
from model.transformer import Transformer

if TYPE_CHECKING:
    from model.loss import Loss


def shard(model: Transformer) -> None:
    """Deal out every parameter to the ranks; a block is put together while it is computed."""
    from torch.distributed.fsdp import fully_shard

    for block in model.model.layers:
        fully_shard(block)
    fully_shard(model)


def add_sharded_gradients(
    model: Any,
    batch: Batch,
    losses: int,
    micro_batch_tokens: int,
    loss: "Loss",
    ranks: Ranks,
    stopped: Callable[[], bool],
) -> Tensor:
    """Set the gradient of what this rank holds of every parameter to that of the batch's summed loss, divided by
    `losses`; returns this rank's part of the sum. It is worth nothing where one of the ranks was `stopped` on the way.

    All ranks compute equally many parts, with nothing that counts where one has fewer: parameters are put together,
    and gradients dealt out, in exchanges that need every rank.
    """
    rows = ranks.share(batch)
    parts = rows.split(micro_batch_tokens) if rows else []
    most = ranks.worst(len(parts))
    total = torch.zeros((), device=model.device)
    for index in range(most):
        if ranks.worst(stopped()):
            break
        model.set_requires_gradient_sync(index == most - 1)
        counts = float(index < len(parts))
        summed = loss(model, parts[index] if counts else batch.split(1)[0])
        (summed * (counts * ranks.count / losses)).backward()  # of the ranks it takes the mean
        total += summed.detach() * counts
    return total
