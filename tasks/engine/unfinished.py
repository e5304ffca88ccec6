"""What an attempt at a stage that did not end has left: checkpoints or finished shards, from which its key goes on.

```
work/<stage>-<key>/identity.json           what the attempt was to build
work/<stage>-<key>/shards.json             how many of its shards were finished, and in what time
work/<stage>-<key>/keep/checkpoints/step-N the trainer's checkpoints; `keep/job.json` says of how many steps
work/<stage>-<key>/keep/forced             a forced attempt began it: nothing in it is older than that
```
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage.files import read_json, write_json

IDENTITY_FILE = "identity.json"
SHARDS_FILE = "shards.json"
KEPT = "keep"
FORCED_FILE = "forced"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An attempt that has left a checkpoint."""

    folder: Path
    identity: Mapping[str, Any]
    step: int
    steps: int | None

    @property
    def forced(self) -> bool:
        return (self.folder / KEPT / FORCED_FILE).exists()

    def __str__(self) -> str:
        return f"step {self.step:,} of {self.steps:,}" if self.steps else f"step {self.step:,}"


@dataclass(frozen=True, slots=True)
class FinishedShards:
    """Of an attempt's last pass over its shards; `seconds` were spent on all that was finished, in every pass."""

    done: int
    total: int
    unit: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.done:,} of {self.total:,} {self.unit}"


def work_folder(work: Path, stage: str, key: str) -> Path:
    """Where a key of a stage is built."""
    return work / f"{stage}-{key[:16]}"


def unfinished_attempts(work: Path, stage: str) -> list[Unfinished]:
    """The attempts at a stage that have left a checkpoint, the latest first."""
    found = []
    for folder in work.glob(f"{stage}-" + "[0-9a-f]" * 16):
        checkpoints = [path.name for path in (folder / KEPT / "checkpoints").glob("step-*")]
        steps = [int(digits) for name in checkpoints if (digits := name.removeprefix("step-")).isdigit()]
        identity = read_json(folder / IDENTITY_FILE)
        if steps and isinstance(identity, dict):
            newest = max((folder / KEPT / "checkpoints" / name).stat().st_mtime_ns for name in checkpoints)
            found.append((newest, Unfinished(folder, identity, max(steps), _steps(folder / KEPT / "job.json"))))
    return [attempt for _, attempt in sorted(found, key=lambda pair: (pair[0], str(pair[1].folder)), reverse=True)]


def finished_shards(folder: Path) -> FinishedShards | None:
    """What the attempt of a work folder has finished; the shards themselves stay as long as the folder does."""
    noted = read_json(folder / SHARDS_FILE)
    return FinishedShards(**noted) if noted else None


def note_shards(folder: Path, finished: FinishedShards) -> None:
    """Say in a work folder how far its shards are."""
    write_json(folder / SHARDS_FILE, asdict(finished))


def note_attempt(folder: Path, identity: Mapping[str, Any]) -> None:
    """Say in a work folder what is built there."""
    if not (folder / IDENTITY_FILE).exists():
        write_json(folder / IDENTITY_FILE, dict(identity))


def take_over(attempt: Unfinished, folder: Path) -> None:
    """Let a build go on from what another key's attempt has left; a build that has begun itself keeps its own."""
    if not (folder / KEPT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (attempt.folder / KEPT).rename(folder / KEPT)


def _steps(job: Path) -> int | None:
    try:
        return int(json.loads(job.read_bytes())["schedule"]["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
