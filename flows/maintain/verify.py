"""What `llmill verify` and `llmill gc` do and print."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.plan import STAGE_NAMES
from flows.terminal.live import live_line
from storage.store.artifacts import Artifact, Part, StoredFile
from storage.store.local import Store, is_intact
from tasks.engine.meter import Meter
from tasks.wording import duration, size

PRINT_SECONDS = 15.0  # between two lines of progress in a pipe
DRAW_SECONDS = 0.2  # on a terminal


# Verify ---------------------------------------------------------------------------------------------------------


@dataclass
class StageHealth:
    """What was re-hashed of a stage, and what is wrong with it."""

    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    damage: list[dict[str, str]] = field(default_factory=list)


def verify_store(store: Store) -> dict[str, Any]:
    """Re-hash every file of every artifact, and the shards that no artifact holds, each file on the disk once.

    Returns the `--json` object. What is damaged is marked so that the next run that needs it rebuilds it.
    """
    verifier = _Verifier(store)
    digests = list(store.artifacts())
    for digest in digests:
        verifier.artifact(digest)
    for path in sorted((store.root / "shards").glob("*/[0-9a-f]*")):
        verifier.shard(path)
    for path in store.damaged_builds():
        what = f"build record damaged, or not one of ours: {path.relative_to(store.home)}"
        verifier.stages[path.parent.name].damage.append({"artifact": "", "what": what})
    return {"artifacts": len(digests), **verifier.result()}


class _Verifier:
    """Re-hashes; a file that has several names (hard links) is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.stages: dict[str, StageHealth] = defaultdict(StageHealth)
        self._intact: dict[tuple[int, str], bool] = {}  # by inode and the digest that it should have
        self._started = time.monotonic()
        self._meter = _Line(sum(path.stat().st_size for path in _distinct_files(store)))

    def artifact(self, digest: str) -> None:
        artifact = self.store.artifact(digest)
        wrong = ["manifest damaged"]
        health = self.stages[artifact.stage if artifact else "unknown"]
        if artifact is not None:
            wrong = [line for part in artifact.parts.values() for line in self._part_damage(artifact, part, health)]
            if wrong and self.store.artifact(digest) is None:  # deleted meanwhile: not damaged
                return
        health.artifacts += 1
        health.damage += [{"artifact": digest, "what": line} for line in wrong]

    def shard(self, path: Path) -> None:
        if not path.is_file() or (path.stat().st_ino, path.name) in self._intact:
            return
        health = self.stages[path.parent.name]
        file = StoredFile(path.name, path.name, path.stat().st_size, path)
        if not self._is_intact(file, health):
            health.damage.append({"artifact": "", "what": f"shard damaged: {path.name}"})

    def _part_damage(self, artifact: Artifact, part: Part, health: StageHealth) -> list[str]:
        if not part.path.is_dir():  # a shared store may have it: there its files are only listed, not read
            return self.store.artifact_damage(artifact.only((part.name,)))
        return [
            f"part {'damaged' if file.path.is_file() else 'missing'}: {part.name}/{file.name}"
            for file in part.files
            if not self._is_intact(file, health)
        ]

    def _is_intact(self, file: StoredFile, health: StageHealth) -> bool:
        if not file.path.is_file():
            return False
        status = file.path.stat()
        health.files, health.bytes = health.files + 1, health.bytes + status.st_size
        known = (status.st_ino, file.digest)
        if known not in self._intact:
            self._intact[known] = is_intact(file, full=True)
            self._meter.add(status.st_size)
        return self._intact[known]

    def result(self) -> dict[str, Any]:
        self._meter.clear()
        names = [*STAGE_NAMES, *sorted(self.stages.keys() - set(STAGE_NAMES))]
        return {
            "bytes": self._meter.done,
            "damaged": sum(len(health.damage) for health in self.stages.values()),
            "seconds": round(time.monotonic() - self._started, 3),
            "stages": [{"stage": name, **vars(self.stages[name])} for name in names if name in self.stages],
        }


def _distinct_files(store: Store) -> Iterator[Path]:
    seen = set()
    for folder in ("parts", "shards"):
        for path in (store.root / folder).rglob("*"):
            if path.is_file() and (inode := path.stat().st_ino) not in seen:
                seen.add(inode)
                yield path


class _Line:
    """Bytes done, rate and time left, on stderr."""

    def __init__(self, total: int) -> None:
        self._total, self.done, self._meter = total, 0, Meter()
        self._shown = time.monotonic()
        self._meter.at(0, total, "bytes")

    def add(self, amount: int) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self._shown < (DRAW_SECONDS if sys.stderr.isatty() else PRINT_SECONDS):
            return
        self._shown = now
        progress = self._meter.at(self.done, self._total, "bytes")
        pace = f"  {size(progress.rate)}/s  {duration(progress.seconds_left)} left" if progress.rate else ""
        live_line(f"verify      {size(self.done)} of {size(self._total)}{pace}")

    def clear(self) -> None:
        live_line("")


def verify_text(result: Mapping[str, Any]) -> str:
    """A line for each stage, then what is damaged and what to do."""
    lines = [f"{'stage':<12}{'artifacts':>9}{'files':>9}{'size':>11}  result"]
    for row in result["stages"]:
        count = len({line["what"] for line in row["damage"]})
        state = f"{count} damaged" if count else "intact"
        lines.append(f"{row['stage']:<12}{row['artifacts']:>9,}{row['files']:>9,}{size(row['bytes']):>11}  {state}")
        lines += [f"  {line['artifact'][:8] or '-':<10}{line['what']}" for line in row["damage"]]
    lines.append(
        f"{result['artifacts']:,} artifacts, {size(result['bytes'])} re-hashed in {duration(result['seconds'])}, "
        f"{result['damaged']} damaged" + (": the next run that needs them rebuilds them" if result["damaged"] else "")
    )
    return "\n".join(lines)


# Garbage --------------------------------------------------------------------------------------------------------
