"""Checkpoints that survive a kill, a full disk and a flipped bit.

```
step-00000200/  tensors.safetensors   weights, optimizer state, random state
                state.json            step, counts, and the identity of the run
                manifest.json         SHA-256 of both, written last
```

A checkpoint is written under another name, flushed to the disk and renamed: it is whole or absent. Reading takes
the newest one whose checksums hold. torch.load and safetensors alone would load a flipped bit without a word.
"""

import json
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from storage.canonical import digest_file
from storage.errors import DataError
from storage.files import fsync_path, read_json, remove_tree, write_json

FILES = ("tensors.safetensors", "state.json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of a run after `step` optimizer steps; `state` is JSON."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Saver:
    """Saves the checkpoints of one run in a thread of its own: training waits only for a copy of its tensors, and for
    the checkpoint before where that is not done yet. An error of it is raised at the next call."""

    def __init__(self, folder: Path, identity: str, kept: int) -> None:
        self.folder, self.identity, self.kept = folder, identity, kept
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._saving: Future[Path] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to save; what is changed of the tensors and the state afterwards is not in it."""
        self.wait()
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in checkpoint.tensors.items()
        }
        copy = Checkpoint(checkpoint.step, tensors, json.loads(json.dumps(checkpoint.state)))
        self._saving = self._pool.submit(save_checkpoint, self.folder, copy, self.identity, self.kept)

    def wait(self) -> None:
        """Until all is on the disk."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def newest(self) -> Checkpoint | None:
        """The newest one that is whole."""
        return load_checkpoint(self.folder, self.identity)

    def drop(self, step: int) -> None:
        """Forget the one of a step."""
        remove_tree(_place(self.folder, step))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, identity: str, kept: int) -> Path:
    """Publish a checkpoint under `folder` and forget all but the newest `kept`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _place(folder, checkpoint.step)
    temporary = folder / f".{path.name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(temporary, checkpoint, identity)
    except BaseException:  # a full disk: the room is needed
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    remove_tree(path)  # a damaged one of the same step
    temporary.rename(path)
    fsync_path(folder)
    for old in _newest_first(folder)[kept:]:
        remove_tree(old)
    return path


def _write(folder: Path, checkpoint: Checkpoint, identity: str) -> None:
    save_file(
        checkpoint.tensors,
        folder / "tensors.safetensors",
    )
    fsync_path(folder / "tensors.safetensors")
    write_json(folder / "state.json", {"step": checkpoint.step, "identity": identity, "state": checkpoint.state})
    write_json(folder / "manifest.json", {name: digest_file(folder / name) for name in FILES})


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The newest valid checkpoint, or None. Damaged ones are skipped, with a line on stderr.

    One of another run (config, data or code of the key differ) is refused: to resume it silently would make weights
    that no record explains.
    """
    for path in _newest_first(folder):
        if not _is_valid(path):
            print(f"checkpoint {path.name} is damaged: skipped", file=sys.stderr, flush=True)  # noqa: T201
            continue
        state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
        if state["identity"] != identity:
            raise DataError(f"{path}: a checkpoint of another config or other data; remove its folder to start over")
        return Checkpoint(state["step"], load_file(path / "tensors.safetensors"), state["state"])
    return None


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _is_valid(path: Path) -> bool:
    manifest = read_json(path / "manifest.json")
    try:
        return manifest is not None and all(digest_file(path / name) == manifest[name] for name in FILES)
    except (OSError, KeyError):
        return False
