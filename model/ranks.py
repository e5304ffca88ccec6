"""Processes that train one model together: whose rows are whose, sums over all of them, and who writes.

Each process (a rank) has the same job and the same batch, and takes rows of its own of it. Two forms:

- replicated: each rank holds the whole model; gradients are added over all ranks, in one order. Muon's matrices are
  dealt to the ranks, each keeps the momentum of its own, and what they make of it is sent round.
- sharded (FSDP2, Zhao et al. 2023): a rank holds rows of each parameter, of its gradient and of the optimizer's state,
  and a block is whole only while it is computed.

What a rank holds of a tensor that is dealt out are always its rows, in chunks as torch.chunk cuts them: a checkpoint is
put together again by joining what all ranks have saved, whatever their number was. With one process nothing of
torch.distributed is imported, and every method gives back what it is given.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.batches import Batch
from storage.errors import ConfigError
from storage.pulse import FOLDER, beat

if TYPE_CHECKING:
    from model.job import TrainingJob

LAUNCHER = "LLMILL_LAUNCHER"  # in the environment of a rank: the process that it ends with
RANKS = "ranks"  # folder of a work folder: the files that they meet by
BUCKET_NUMBERS = 16 * 2**20  # that are added over the ranks in one message
WAITING = timedelta(minutes=30)  # for another rank; one that hangs is found sooner, by its silence


class Ranks:
    """The place of a process among those that train together; this one is alone."""

    rank, count, sharded = 0, 1, False

    def __init__(self, beats: Path | None = None) -> None:
        self._beats = beats

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def beat(self) -> None:
        """Say to who watches that this rank goes on (storage/pulse.py)."""
        if self._beats is not None:
            beat(self._beats, f"rank {self.rank}")

    def rows(self, total: int) -> slice:
        """Which of so many rows are this rank's."""
        each = -(-total // self.count)
        return slice(min(total, self.rank * each), min(total, (self.rank + 1) * each))

    def share(self, batch: Batch) -> Batch | None:
        """This rank's rows of a batch; None where there are more ranks than rows."""
        shares = batch.share(self.count)
        return shares[self.rank] if self.rank < len(shares) else None

    def local(self, parameter: Tensor) -> Tensor:
        """What this rank holds of a parameter."""
        return parameter

    def whole(self, parameter: Tensor) -> Tensor:
        """All of a parameter or gradient, on every rank."""
        return parameter

    def pieces(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        """What this rank saves of what it holds: its rows."""
        return held

    def piece(self, saved: Tensor) -> Tensor:
        """What this rank holds of a tensor that was saved in pieces."""
        return saved

    def joined(self, piece: Tensor, total: int) -> Iterator[Tensor]:
        """The rows of all ranks, in order; `total` of them."""
        yield from piece

    def worst(self, trouble: int) -> int:
        """The largest of a number over the ranks."""
        return trouble

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over the ranks into each."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def leave(self) -> None:
        """Wait until all ranks have ended their work, and part."""


class Group(Ranks):
    """One of several processes; each method but `beat`, `rows`, `share`, `local`, `pieces` and `piece` is called by all
    of them, in the same order."""

    def __init__(self, job: "TrainingJob", beats: Path) -> None:
        """Meet the others: those of a launcher by a file, those of several machines where the job says, others where
        the environment does (`MASTER_ADDR`, `MASTER_PORT`). `RANK` and `WORLD_SIZE` are those on this machine."""
        import torch.distributed

        super().__init__(beats)
        self._distributed: Any = torch.distributed
        number, here = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        self.rank, self.count = (job.node.number * here if job.node else 0) + number, job.ranks
        self._distributed.init_process_group(
            "gloo" if job.device == "cpu" else "cpu:gloo,cuda:nccl",
            store=self._store(job),
            rank=self.rank,
            world_size=self.count,
            timeout=WAITING,
        )
        self.sharded = job.sharded

    def _store(self, job: "TrainingJob") -> Any:
        """Where ranks meet; None: where the environment says."""
        if job.node is not None:
            host, _, port = job.node.meeting.rpartition(":")
            return self._distributed.TCPStore(host.strip("[]"), int(port), self.count, timeout=WAITING)
        if LAUNCHER not in os.environ:
            return None
        return self._distributed.FileStore(str(ranks_folder(job) / "trainers"), self.count)

    def local(self, parameter: Tensor) -> Tensor:
        held: Tensor = getattr(parameter, "to_local", lambda: parameter)()  # a DTensor has it
        return held

    def whole(self, parameter: Tensor) -> Tensor:
        found: Tensor = getattr(parameter, "full_tensor", lambda: parameter)()
        return found

    def pieces(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = {name: tensor for name, tensor in held.items() if tensor.ndim == 0}
        rows = {name: self.local(tensor) for name, tensor in held.items() if tensor.ndim}
        if not self.sharded:
            rows = {name: tensor[self.rows(len(tensor))] for name, tensor in rows.items()}
        return {name: tensor for name, tensor in rows.items() if tensor.numel()} | (numbers if self.first else {})

    def piece(self, saved: Tensor) -> Tensor:
        return saved[self.rows(len(saved))].clone() if self.sharded and saved.ndim else saved

    def joined(self, piece: Tensor, total: int) -> Iterator[Tensor]:
        each = -(-total // self.count)
        if not self.sharded:  # there is room for all of them
            filled = torch.cat([piece, piece.new_zeros(each - len(piece), *piece.shape[1:])])
            everything = [torch.empty_like(filled) for _ in range(self.count)]
            self._distributed.all_gather(everything, filled)
            yield from torch.cat(everything)[:total]
            return
        for place in range(total):
            owner, at = divmod(place, each)
            row = piece[at].clone() if owner == self.rank else piece.new_empty(piece.shape[1:])
            self._distributed.broadcast(row, owner)
            yield row

    def worst(self, trouble: int) -> int:
        number = torch.tensor(trouble)
        self._distributed.all_reduce(number, self._distributed.ReduceOp.MAX)
        return int(number)

    def add(self, tensors: Sequence[Tensor]) -> None:
        for bucket in _buckets(tensors):
            joined = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._distributed.all_reduce(joined)
            start = 0
            for tensor in bucket:
                tensor.copy_(joined[start : start + tensor.numel()].view_as(tensor))
                start += tensor.numel()

    def barrier(self) -> None:
        self._distributed.barrier()

    def leave(self) -> None:
        self.barrier()
        self._distributed.destroy_process_group()  # otherwise NCCL warns when the process ends


def join(job: "TrainingJob") -> Ranks:
    """The place of this process, which model/launcher.py has given it where the job has several; raises ConfigError for
    a process that was started in another way."""
    beats, started = Path(job.work) / FOLDER, int(os.environ.get("WORLD_SIZE", "1"))
    if job.ranks > 1 and started != job.ranks_here:
        raise ConfigError(
            f"processes: {job.ranks_here} train together, and this one was started "
            + ("alone: use model.launcher" if started == 1 else f"as one of {started}")
        )
    return Ranks(beats) if job.ranks == 1 else Group(job, beats)


def ranks_folder(job: "TrainingJob") -> Path:
    """The folder of the files that the launcher of this machine and its ranks meet by."""
    return Path(job.work) / RANKS / str(job.node.number if job.node else 0)


def device_of(job: "TrainingJob") -> torch.device:
    """The device of this process: of several GPUs the one of its place on its machine."""
    if job.device == "cpu" or job.ranks == 1:
        return torch.device(job.device)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, as many at once as a message holds."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
