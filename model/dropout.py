"""Dropout (Srivastava et al. 2014), in the places where GPT-2 has it: numbers of the embeddings, of what attention and
feed-forward add to the stream, and shares of attention are left out, and the rest is raised to keep the mean.

What is left out follows from (seed, step, row of the batch, place) alone, as batches do: a training that was killed, or
that goes on in other threads, other processes or smaller parts, leaves out the same. Only a batch to train on has it; a
model that is measured, and one that teaches, leaves out nothing.

It is drawn outside of what is compiled, a generator a row. Where attention has it, its scores are held: memory grows
with the square of the context.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from model.batches import Batch, IntArray, hashes
from model.shape import Dropout

if TYPE_CHECKING:
    from model.job import TrainingJob

STREAM = 4  # beside the seeds of orders (model/batches.py) and of hidden words (model/masked.py)
PLACES_OF_A_BLOCK = 3


class Kept(NamedTuple):
    """Which numbers of a tensor stay, and what they are multiplied by."""

    which: Tensor
    scale: float


class KeptInBlock(NamedTuple):
    """Of a block: shares of attention (B, H, T, T), and what attention and feed-forward add (B, T, D)."""

    shares: Kept | None = None
    mixed: Kept | None = None
    fed_forward: Kept | None = None


EVERYTHING = KeptInBlock()


def drop(x: Tensor, kept: Kept | None) -> Tensor:
    """A tensor without what is left out."""
    return x if kept is None else x * kept.which * kept.scale


@dataclass(frozen=True, slots=True)
class Noise:
    """What a batch leaves out: `keys` (rows,) are what its rows are drawn from."""

    rates: Dropout
    keys: IntArray

    def of_rows(self, span: slice) -> "Noise":
        """That of some of the rows."""
        return replace(self, keys=self.keys[span])

    def in_embeddings(self, x: Tensor) -> Kept | None:
        """Of the embeddings (B, T, D)."""
        return self._draw(0, self.rates.embeddings, x.shape[1:], x.device)

    def in_block(self, layer: int, x: Tensor, heads: int) -> KeptInBlock:
        """Of the block with this number, for a stream (B, T, D)."""
        place, time, device = 1 + PLACES_OF_A_BLOCK * layer, x.shape[1], x.device
        return KeptInBlock(
            self._draw(place, self.rates.attention, (heads, time, time), device),
            self._draw(place + 1, self.rates.residual, x.shape[1:], device),
            self._draw(place + 2, self.rates.residual, x.shape[1:], device),
        )

    def _draw(self, place: int, rate: float, sizes: tuple[int, ...], device: torch.device) -> Kept | None:
        if not rate:
            return None
        which = torch.empty((len(self.keys), *sizes), dtype=torch.bool, device=device)
        generator = torch.Generator(device)
        for row, key in zip(which, self.keys.tolist(), strict=True):
            generator.manual_seed(key + place)
            row.bernoulli_(1 - rate, generator=generator)
        return Kept(which, 1 / (1 - rate))


def with_noise(batch: Batch, job: "TrainingJob", step: int) -> Batch:
    """The batch of a step, with what a job leaves out of it."""
    if not job.leaves_out:
        return batch
    keys = (hashes(len(batch.inputs), job.seed + STREAM, step) >> 2).astype("int64")  # generators take no larger ones
    return replace(batch, noise=Noise(job.left_out, keys))
