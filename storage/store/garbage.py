"""Garbage collection: delete what nothing reaches, beside runs that go on.

Roots are the artifacts of the last runs, of the newest completed one (`latest`) and of those under way, the newest of
each stage of each recipe, all artifacts that the caller keeps (the releases), and the named references. An artifact
reaches its own parts, the jobs that its builds have used (they save work for new data) with their shards, and the
build records of all its ancestors, so that its lineage is still known when the ancestors' data are gone.

Why nothing in use is deleted: whoever finds something in the store or puts it there holds `Store.unswept()` until it
is noted in the run file; the collector takes the same lock alone while it marks and moves. Under way for hours,
without that lock, are only the builds themselves: each has its folder `work/<stage>-<key>` and holds its key's lock.
While one does, or a run that was kept may resume it, all jobs and shards of its stage stay. Dead things are first
moved aside, each by one rename, and deleted when the lock is free again.
"""

import os
import shutil
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import StoreError
from storage.files import locked, read_json
from storage.runs import COMPLETED, REUSED, RUNNING, runs
from storage.store.artifacts import Artifact
from storage.store.local import SWEEP_LOCK, Store
from storage.store.refs import kept_by_refs

LEFTOVER_SECONDS = 3600  # a temporary file of this age belongs to no writer any more

Inode = tuple[int, int]
Keep = Callable[[Artifact], bool]


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing that nothing reaches; `bytes` is what the disk gets back with it (a hard link alone gives nothing)."""

    kind: str  # part, manifest, shard, job, build record, work folder, leftover
    stage: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class _Live:
    artifacts: frozenset[str]
    parts: frozenset[Path]
    shards: frozenset[Path]
    jobs: frozenset[str]
    builds: frozenset[Path]
    work: frozenset[Path]
    stages: frozenset[str]  # with a build under way or to be resumed: all their jobs and shards stay


def collect_garbage(store: Store, keep_runs: int, keep: Keep, *, dry_run: bool) -> list[Garbage]:
    """Find what nothing reaches and delete it, unless `dry_run`; returns it.

    `keep` says of an artifact whether it stays, reached or not.
    Raises StoreError where a run file or reference cannot be read: what it reaches is not known then.
    """
    if not store.home.is_dir():
        return []
    trash = store.root / f".trash-{uuid.uuid4().hex}"
    lock = store.work / SWEEP_LOCK
    unlockable = dry_run and not lock.exists() and not os.access(store.home, os.W_OK)  # a home that is only read
    with nullcontext() if unlockable else locked(lock, shared=dry_run):
        found = list(_measured(_dead(store, _mark(store, keep_runs, keep))))
        if not dry_run and found:
            trash.mkdir(parents=True)
            for number, garbage in enumerate(found):
                with suppress(FileNotFoundError):  # another command has just removed its own leftover
                    garbage.path.rename(trash / str(number))
    shutil.rmtree(trash, ignore_errors=True)
    return found


# Mark -----------------------------------------------------------------------------------------------------------


def _mark(store: Store, keep_runs: int, keep: Keep) -> _Live:
    kept = _kept_runs(store.home, keep_runs)
    manifests = {digest: store.artifact(digest) for digest in store.artifacts()}
    roots = {row["artifact"]["digest"] for run in kept for row in run["stages"] if "artifact" in row}
    roots |= {digest for digest, artifact in manifests.items() if artifact and keep(artifact)}
    roots |= _newest_of_recipes(store.home) if keep_runs else set()
    roots |= kept_by_refs(store)
    artifacts = {digest: artifact for digest, artifact in manifests.items() if artifact and digest in roots}

    records = {path: read_json(path) for path in store.builds.glob("*/[0-9a-f]*.json")}
    whole = {path: record for path, record in records.items() if isinstance(record, dict) and "artifact" in record}
    lineage = _ancestors(set(artifacts), list(whole.values()))
    builds = {path for path, record in whole.items() if record["artifact"] in lineage}

    work = {folder for folder in _work_folders(store) if _is_held(store, folder) or _may_resume(folder, kept)}
    stages = {folder.name.rpartition("-")[0] for folder in work}
    used = {
        job
        for path, record in whole.items()
        if record["artifact"] in artifacts
        for job in store.jobs_of(path.parent.name, path.stem)
    }
    jobs, shards = _jobs_and_shards(store, used, stages)
    shards |= {
        store.root / "shards" / artifact.stage / file.digest
        for artifact in artifacts.values()
        for part in artifact.parts.values()
        for file in part.files
    }
    return _Live(
        artifacts=frozenset(artifacts),
        parts=frozenset(part.path for artifact in artifacts.values() for part in artifact.parts.values()),
        shards=frozenset(shards),
        jobs=frozenset(jobs),
        builds=frozenset(builds),
        work=frozenset(work),
        stages=frozenset(stages),
    )


def _kept_runs(home: Path, count: int) -> list[dict[str, Any]]:
    for path in sorted((home / "runs").glob("*.json")):
        if not isinstance(read_json(path), dict):
            raise StoreError(f"{path}: is damaged, so what this run reached is not known. Delete the file to go on")
    known = runs(home)
    under_way = [run for run in known if run["status"] == RUNNING]
    completed = [run for run in known if run["status"] in (COMPLETED, REUSED)]
    return [*under_way, *(known[-count:] + completed[-1:] if count else [])]


def _newest_of_recipes(home: Path) -> set[str]:
    """The newest artifact of each stage of each recipe: many runs that end early push no model out."""
    newest = {
        (run.get("recipe_name"), row["stage"]): row["artifact"]["digest"]
        for run in runs(home)
        for row in run["stages"]
        if "artifact" in row
    }
    return set(newest.values())


def _ancestors(digests: set[str], records: Sequence[dict[str, Any]]) -> set[str]:
    """The digests, and those of everything that they were built from, as far as build records go."""
    parents = defaultdict(set)
    for record in records:
        parents[record["artifact"]].update(record.get("parents", ()))
    reached: set[str] = set()
    waiting = set(digests)
    while waiting:
        digest = waiting.pop()
        reached.add(digest)
        waiting |= parents[digest] - reached
    return reached


def _work_folders(store: Store) -> list[Path]:
    return [path for path in store.work.glob("*-" + "[0-9a-f]" * 16) if path.is_dir()]


def _is_held(store: Store, folder: Path) -> bool:
    """Whether a living process holds the lock of the folder's key."""
    for lock in store.work.glob(f"{folder.name.rpartition('-')[2]}*.lock"):
        with locked(lock, blocking=False) as free:
            if not free:
                return True
    return False


def _may_resume(folder: Path, kept: Sequence[dict[str, Any]]) -> bool:
    """Whether a run that is kept was building this: the next run goes on from its checkpoint or its shards."""
    digits = folder.name.rpartition("-")[2]
    return any(key.startswith(digits) for run in kept for key in run.get("building", {}).values())


def _jobs_and_shards(store: Store, used: set[str], stages: set[str]) -> tuple[set[str], set[Path]]:
    """The jobs that stay, and the shards that they have left."""
    jobs, shards = set(), set()
    for path in (store.root / "jobs").glob("[0-9a-f]*.json"):
        record = read_json(path)
        if isinstance(record, dict) and (path.stem in used or record.get("stage") in stages):
            jobs.add(path.stem)
            shards |= {store.root / "shards" / record["stage"] / row["sha256"] for row in record["files"]}
    return jobs, shards


# Sweep ----------------------------------------------------------------------------------------------------------


def _dead(store: Store, live: _Live) -> Iterator[tuple[str, str, Path]]:
    """Kind, stage and path of what is not live. Build records first: without its record nothing is found."""
    for path in sorted(store.builds.glob("*/[0-9a-f]*")):
        if path.with_suffix(".json") not in live.builds:
            yield "build record", path.parent.name, path
    for path in sorted((store.root / "artifacts").glob("[0-9a-f]*.json")):
        if path.stem not in live.artifacts:
            manifest = read_json(path)
            yield "manifest", manifest.get("stage", "") if isinstance(manifest, dict) else "", path
    for path in sorted((store.root / "parts").glob("*/*/[0-9a-f]*")):
        if path not in live.parts:
            yield "part", path.parent.parent.name, path
    for path in sorted((store.root / "jobs").glob("[0-9a-f]*.json")):
        if path.stem not in live.jobs:
            record = read_json(path)
            yield "job", record.get("stage", "") if isinstance(record, dict) else "", path
    for path in sorted((store.root / "shards").glob("*/[0-9a-f]*")):
        if path not in live.shards and path.parent.name not in live.stages:
            yield "shard", path.parent.name, path
    for path in sorted(_work_folders(store)):
        if path not in live.work:
            yield "work folder", path.name.rpartition("-")[0], path
    yield from (("leftover", "", path) for path in _leftovers(store))


def _leftovers(store: Store) -> Iterator[Path]:
    """What killed processes left: folders under deletion, and temporary files of atomic writes."""
    for folder in (store.root, store.work, *(store.root / "parts").glob("*/*")):
        yield from sorted(folder.glob(".trash-*"))
    old = time.time() - LEFTOVER_SECONDS
    for folder in (store.root / "artifacts", store.root / "jobs", *store.builds.glob("*"), store.home / "runs"):
        for path in sorted((*folder.glob(".*.json.*"), *folder.glob(".*.html.*"))):
            with suppress(FileNotFoundError):  # a write that is going on: renamed since the folder was listed
                if path.stat().st_mtime < old:
                    yield path


def _measured(dead: Iterator[tuple[str, str, Path]]) -> Iterator[Garbage]:
    """Each with the bytes that it frees: a file's count where the last of its hard links goes."""
    things = list(dead)
    files = [list(_files(path)) for _, _, path in things]
    links_gone = Counter(inode for members in files for inode, _, _ in members)
    counted: Counter[Inode] = Counter()
    for (kind, stage, path), members in zip(things, files, strict=True):
        freed = 0
        for inode, links, size in members:
            counted[inode] += 1
            if links_gone[inode] == links == counted[inode]:
                freed += size
        yield Garbage(kind, stage, path, freed)


def freed_with(path: Path, gone: Iterable[Path]) -> int:
    """Bytes that the disk gets back with a folder, where all of `gone` goes too."""
    links_gone = Counter(inode for other in gone for inode, _, _ in _files(other))
    own = list(_files(path))
    links_gone.update(inode for inode, _, _ in own)
    return sum({inode: size for inode, links, size in own if links <= links_gone[inode]}.values())


def _files(path: Path) -> Iterator[tuple[Inode, int, int]]:
    """Inode, number of hard links and bytes of every file of a folder, or of the one file."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            status = file.stat()
            yield (status.st_dev, status.st_ino), status.st_nlink, status.st_size
