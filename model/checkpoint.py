"""Checkpoints that survive a kill, a full disk and a flipped bit.

```
step-00000200/  tensors-00000-of-00001.safetensors   weights, optimizer state, random state
                state.json                           step, counts, and the identity of the run
                manifest.json                        SHA-256 of all of them, written last
```

A checkpoint is written under another name, flushed to the disk and renamed: it is whole or absent. Reading takes
the newest one whose checksums hold. torch.load and safetensors alone would load a flipped bit without a word.

Of several processes each writes a file of its own, with its rows of each tensor; the first waits for all, writes the
manifest and renames. Read by any number of processes, the rows are joined in the order of the files.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.ranks import Ranks
from storage.canonical import digest_file
from storage.errors import DataError, StoreError
from storage.files import fsync_path, read_json, remove_tree, write_json

STATE, MANIFEST = "state.json", "manifest.json"
PIECES = "tensors-*.safetensors"
POLL_SECONDS = 0.05
MOST_WAITING_SECONDS = 900.0  # for the pieces of the other processes
MOST_LOOKS, LOOK_SECONDS = 60, 2.0  # for a checkpoint that other machines see already: a network file system is late


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of a run after `step` optimizer steps; `state` is JSON."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Saver:
    """Saves the checkpoints of one run in a thread of its own: training waits only for a copy of its tensors, and for
    the checkpoint before where that is not done yet. An error of it is raised at the next call.

    Of several processes each has one, and saves the same steps; the first has the folder.
    """

    def __init__(self, folder: Path, identity: str, kept: int, ranks: Ranks | None = None) -> None:
        self.folder, self.identity, self.kept, self.ranks = folder, identity, kept, ranks or Ranks()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._saving: Future[None] | None = None
        self._number = 0
        self._given_up = Event()
        if self.ranks.first:  # what a killed run left behind
            for old in folder.glob(".step-*.writing*"):
                remove_tree(old)

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save; what is changed of the tensors and the state afterwards is not in it."""
        self.wait()
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in checkpoint.tensors.items()
        }
        copy = Checkpoint(checkpoint.step, tensors, json.loads(json.dumps(checkpoint.state)))
        self._number += 1  # a step may be saved again while the first process still has what was saved of it before
        self._saving = self._pool.submit(
            self._save, copy, self.folder / f".step-{copy.step:08d}.writing-{self._number}"
        )

    def wait(self) -> None:
        """Until this process's part is on the disk, of the first process all."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def give_up(self) -> None:
        """Await no other process any more: training is over, or has failed, and the others may be dead."""
        self._given_up.set()

    def newest(self) -> Checkpoint | None:
        """The newest one that is whole, the same on all ranks: another machine may see what was saved a while later.

        Called by all of them; StoreError where they do not come to see the same.
        """
        for _ in range(MOST_LOOKS):
            found = load_checkpoint(self.folder, self.identity)
            step = found.step if found else -1
            if not self.ranks.worst(step < self.ranks.worst(step)):
                return found
            time.sleep(LOOK_SECONDS)
        raise StoreError(f"{self.folder}: not all machines see the same checkpoints here; share this file system")

    def drop(self, step: int) -> None:
        """Forget the one of a step."""
        remove_tree(_place(self.folder, step))

    def _save(self, checkpoint: Checkpoint, temporary: Path) -> None:
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            digest = _write_piece(temporary, checkpoint.tensors, self.ranks.rank, self.ranks.count)
            if not self.ranks.first:
                write_json(temporary / f"{self.ranks.rank}.written", digest)
                return
            marks = (temporary / f"{rank}.written" for rank in range(1, self.ranks.count))
            digests = [digest, *(_awaited(mark, self._given_up) for mark in marks)]
            _publish(self.folder, checkpoint, self.identity, self.kept, temporary, digests)
        except BaseException:  # a full disk: the room is needed
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _write_piece(folder: Path, tensors: dict[str, Tensor], rank: int, count: int) -> str:
    """Write what one of so many processes has of the tensors; returns the SHA-256 of the file."""
    path = folder / _piece(rank, count)
    save_file(tensors, path)
    fsync_path(path)
    return digest_file(path)


def _publish(
    folder: Path, checkpoint: Checkpoint, identity: str, kept: int, temporary: Path, digests: Sequence[str]
) -> None:
    """Make a checkpoint of its pieces, by rank, and forget all but the newest `kept`."""
    for mark in temporary.glob("*.written"):
        mark.unlink()
    write_json(temporary / STATE, {"step": checkpoint.step, "identity": identity, "state": checkpoint.state})
    names = {_piece(rank, len(digests)): digest for rank, digest in enumerate(digests)}
    write_json(temporary / MANIFEST, names | {STATE: digest_file(temporary / STATE)})
    path = _place(folder, checkpoint.step)
    remove_tree(path)  # a damaged one of the same step
    temporary.rename(path)
    fsync_path(folder)
    for old in _newest_first(folder)[kept:]:
        remove_tree(old)


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The newest valid checkpoint, or None. Damaged ones are skipped, with a line on stderr.

    One of another run (config, data or code of the key differ) is refused: to resume it silently would make weights
    that no record explains.
    """
    for path in _newest_first(folder):
        if not _is_valid(path):
            print(f"checkpoint {path.name} is damaged: skipped", file=sys.stderr, flush=True)  # noqa: T201
            continue
        state: dict[str, Any] = json.loads((path / STATE).read_bytes())
        if state["identity"] != identity:
            raise DataError(f"{path}: a checkpoint of another config or other data; remove its folder to start over")
        return Checkpoint(state["step"], _joined(path), state["state"])
    return None


def _joined(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, put together of the pieces of all its processes."""
    pieces = [load_file(path) for path in sorted(folder.glob(PIECES))]
    if len(pieces) == 1:
        return pieces[0]
    names = dict.fromkeys(name for piece in pieces for name in piece)
    found = {name: [piece.pop(name) for piece in pieces if name in piece] for name in names}
    return {name: parts[0] if parts[0].ndim == 0 else torch.cat(parts) for name, parts in found.items()}


def _awaited(mark: Path, given_up: Event) -> str:
    """The digest that another process has written beside its piece."""
    deadline = time.monotonic() + MOST_WAITING_SECONDS
    while (digest := read_json(mark)) is None:
        if time.monotonic() > deadline or given_up.wait(POLL_SECONDS):
            raise StoreError(f"{mark.parent}: process {mark.stem} has not saved its part of the checkpoint")
    return str(digest)


def _piece(rank: int, count: int) -> str:
    return f"tensors-{rank:05d}-of-{count:05d}.safetensors"


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _is_valid(path: Path) -> bool:
    manifest: dict[str, str] = read_json(path / MANIFEST) or {}
    try:
        return STATE in manifest and all(digest_file(path / name) == digest for name, digest in manifest.items())
    except OSError:
        return False
