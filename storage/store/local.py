"""The local store: content-addressed parts, artifacts, shards, and the build records that point to them.

```
store/parts/<stage>/<part>/<digest>/...   a part: a folder of immutable files, published by one rename
store/artifacts/<digest>.json             the manifest that names a stage's parts
store/shards/<stage>/<sha256>             a shard's file, linked into every part that holds it
store/jobs/<key>.json                     what a shard's work left
builds/<stage>/<key>.json                 build records
builds/<stage>/<key>.jobs                 the job records that a build has used
store/refs.json                           named references to artifacts (refs.py)
```

Every published file carries one fixed modification time. A file with that time and the right size is taken as
intact; any write moves the time, and then the full SHA-256 decides. So verification needs no index of its own and
a copied store is verified once.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.canonical import digest_file, digest_of
from storage.errors import StoreError
from storage.files import fsync_path, locked, read_json, remove_tree, write_atomic, write_json
from storage.store.artifacts import Artifact, Part, StoredFile, artifact_manifest, part_digest
from storage.waiting import Waiting, held

PUBLISHED_TIME = 946_684_800  # 2000-01-01: the modification time of every published file
FORMAT = 1
SWEEP_LOCK = "sweep.lock"
CHECKSUM = "checksum"  # of a build record: the digest of all else in it
_NEEDED: dict[str, Any] = {  # of a build record, by kind
    **dict.fromkeys(("stage", "key", "artifact", "finished", "run"), str),
    **dict.fromkeys(("identity", "summary"), dict),
    **{"seconds": (int, float), "why": list},
}
_NEEDED_OF_IDENTITY: dict[str, Any] = {
    "version": int,
    **dict.fromkeys(("code", "config", "inputs", "observed", "libraries"), dict),
}


OnProgress = Callable[[int, int], None]  # called with how far a transfer is: bytes done, bytes in all


def silent(done: int, total: int) -> None:
    """The `OnProgress` that shows nothing."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a shard's work left: its files by name, and its own summary."""

    stage: str
    files: Mapping[str, StoredFile]
    summary: dict[str, Any]


class DamagedError(StoreError):
    """A part cannot be read as it was published; its stage has to be built again."""


class Store:
    """The local store under one home. Methods are safe to call from several processes at once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "store"
        self.builds = home / "builds"
        self.work = home / "work"
        self.names_path = self.root / "refs.json"
        self._builds: dict[Path, tuple[tuple[int, int, int], dict[str, Any] | None]] = {}

    @contextmanager
    def unswept(self) -> Iterator[None]:
        """Keep `gc` away while something is found in the store or put there, until it is noted in the run file.

        Shared by any number of processes, and held for moments, never while a stage works (garbage.py).
        """
        with locked(self.work / SWEEP_LOCK, shared=True):
            yield

    @contextmanager
    def lock(
        self, key: str, seconds: float, waiting: Waiting = lambda holder: None, holder: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Hold the lock of a key: who builds it is alone. The kernel frees it when its holder dies.

        `waiting` is called with who else holds it, at once and each minute; `holder` says who this is: `{"run": NAME}`.
        In a shared store a lease of so many seconds goes with it.
        """
        with held(self.work / f"{key}.lock", holder or {}, waiting):
            yield

    # A shared store (shared.py) does more here ------------------------------------------------------------------

    def fetch(self, artifact: Artifact, on_progress: OnProgress = silent) -> None:
        """Have all parts of an artifact in this home; raises DamagedError where that cannot be."""

    def share(self, record: Mapping[str, Any], on_progress: OnProgress = silent) -> None:
        """Have others see a build; what cannot be sent now waits for `share_pending`."""

    def share_pending(self) -> None:
        """Send what `share` could not; raises StoreError where that fails again."""

    def share_run(self, path: Path) -> None:
        """Have others see the file of a run that has ended."""

    def sync_runs(self) -> None:
        """See the runs that have ended elsewhere."""

    def share_recipe(self, path: Path) -> None:
        """Have the workers of other homes know a recipe that was saved in this one."""

    def sync_recipes(self) -> None:
        """Know the recipes that were saved elsewhere, as they are there."""

    def read_names(self) -> bytes | None:
        """The file of the named references (refs.py), or None where there is none."""
        return self.names_path.read_bytes() if self.names_path.exists() else None

    def write_names(self, data: bytes) -> None:
        """Replace what this store has last read; StoreError, and nothing written, where others have replaced it."""
        write_atomic(self.names_path, data)

    # Parts ------------------------------------------------------------------------------------------------------

    def part_path(self, stage: str, part: str, digest: str) -> Path:
        return self.root / "parts" / stage / part / digest

    def publish_part(self, stage: str, name: str, folder: Path, sealed: Mapping[str, StoredFile]) -> Part:
        """Move a private folder into the store under the digest of its contents, in one rename.

        `sealed` holds the files, by name, that were linked from the store: their digests are known.
        """
        files = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file = path.relative_to(folder).as_posix()
            digest = sealed[file].digest if file in sealed else seal(path)
            files.append((file, digest, path.stat().st_size))
        digest = part_digest(files)
        target = self.part_path(stage, name, digest)
        part = _part(name, digest, target, files)
        for sub in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
            fsync_path(sub)
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.work / "publish.lock"):  # a second writer of equal contents must not remove the first's
            if target.exists() and not self.damage(part):
                shutil.rmtree(folder)
            else:
                remove_tree(target)
                folder.rename(target)
                fsync_path(target.parent)
        return part

    def damage(self, part: Part, *, full: bool = False) -> list[str]:
        """What is wrong with a part, in words; empty when it is intact. `full` re-hashes every file."""
        if not part.path.is_dir():
            return [f"part missing: {part.name}"]
        wrong = []
        for file in part.files:
            if not file.path.is_file():
                wrong.append(f"part missing: {part.name}/{file.name}")
            elif not is_intact(file, full=full):
                wrong.append(f"part damaged: {part.name}/{file.name}")
        return wrong

    # Artifacts --------------------------------------------------------------------------------------------------

    def publish_artifact(self, stage: str, parts: dict[str, Part]) -> Artifact:
        """Write the manifest that names a stage's published parts."""
        manifest = artifact_manifest(stage, parts)
        artifact = Artifact(stage, digest_of(manifest), dict(sorted(parts.items())))
        write_json(self._artifact_path(artifact.digest), manifest)
        return artifact

    def artifact(self, digest: str) -> Artifact | None:
        """The artifact of that digest, or None where its manifest is missing or damaged."""
        path = self._artifact_path(digest)
        manifest = read_json(path)
        if not isinstance(manifest, dict):
            return None
        _check_format(path, manifest)
        if digest_of(manifest) != digest:
            return None
        stage = manifest["stage"]
        parts = {}
        for name, entry in manifest["parts"].items():
            files = [(file["name"], file["sha256"], file["bytes"]) for file in entry["files"]]
            parts[name] = _part(name, entry["digest"], self.part_path(stage, name, entry["digest"]), files)
        return Artifact(stage, digest, parts)

    def artifact_damage(self, artifact: Artifact, *, full: bool = False) -> list[str]:
        return [line for part in artifact.parts.values() for line in self.damage(part, full=full)]

    def artifacts(self) -> Iterator[str]:
        """The digests of all artifacts."""
        for path in sorted((self.root / "artifacts").glob("*.json")):
            yield path.stem

    def _artifact_path(self, digest: str) -> Path:
        return self.root / "artifacts" / f"{digest}.json"

    # Shards and the jobs that made them -------------------------------------------------------------------------

    def publish_shard(self, stage: str, path: Path) -> StoredFile:
        """Move one file into the store under its SHA-256; files of equal contents are stored once in each stage."""
        digest, size = seal(path), path.stat().st_size
        file = self.shard(stage, path.name, digest, size)
        if is_intact(file):
            path.unlink()
        else:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            path.replace(file.path)
        return file

    def shard(self, stage: str, name: str, digest: str, size: int) -> StoredFile:
        """A shard's file by its address; whether it is there is another question."""
        return StoredFile(name, digest, size, self._shard_path(stage, digest))

    def record_job(
        self, stage: str, key: str, files: list[StoredFile], summary: dict[str, Any], alike: str = ""
    ) -> None:
        """Note what a job has left. `alike` is its key without the code."""
        rows = [{"name": file.name, "sha256": file.digest, "bytes": file.bytes} for file in files]
        write_json(self._job_path(key), {"stage": stage, "files": rows, "summary": summary, "alike": alike})

    def jobs(self, keys: Iterable[str]) -> dict[str, JobRecord]:
        """The results of those jobs that are done and whose files are intact, by key."""
        found = {key: record for key in keys if (record := self._job(key))}
        return {key: job for key, job in found.items() if all(is_intact(file) for file in job.files.values())}

    def jobs_alike(self, stage: str, alike: Iterable[str]) -> dict[str, JobRecord]:
        """The latest results of jobs that differ from these in their code alone, by `alike`; reads all job records."""
        wanted, keys = set(alike), dict[str, str]()
        for path in sorted((self.root / "jobs").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            record = read_json(path)
            if isinstance(record, dict) and record.get("stage") == stage and record.get("alike") in wanted:
                keys[record["alike"]] = path.stem
        found = self.jobs(keys.values())
        return {one: found[key] for one, key in keys.items() if key in found}

    def _job(self, key: str) -> JobRecord | None:
        record: Any = read_json(self._job_path(key))
        try:
            files = {
                row["name"]: self.shard(record["stage"], row["name"], row["sha256"], row["bytes"])
                for row in record["files"]
            }
            return JobRecord(record["stage"], files, dict(record["summary"]))
        except (TypeError, KeyError, ValueError):  # missing or damaged
            return None

    def _shard_path(self, stage: str, digest: str) -> Path:
        return self.root / "shards" / stage / digest

    def _job_path(self, key: str) -> Path:
        return self.root / "jobs" / f"{key}.json"

    # Build records ----------------------------------------------------------------------------------------------

    def record_build(self, record: dict[str, Any]) -> None:
        content = {name: value for name, value in record.items() if name != CHECKSUM}
        write_json(self._build_path(record["stage"], record["key"]), content | {CHECKSUM: digest_of(content)})

    def build(self, stage: str, key: str) -> dict[str, Any] | None:
        return _read_build(self._build_path(stage, key))

    def damaged_builds(self) -> list[Path]:
        """The files among the build records that are not whole build records: they count as absent."""
        return [path for path in sorted(self.builds.glob("*/*.json")) if _read_build(path) is None]

    def builds_of(self, stage: str) -> list[dict[str, Any]]:
        """All build records of a stage, newest last."""
        found = (self._known_build(path) for path in (self.builds / stage).glob("[0-9a-f]*.json"))
        whole = [record for record in found if record is not None]
        return sorted(whole, key=lambda record: (record["finished"], record["key"]))

    def builds_that_made(self, stage: str, artifact: str) -> list[dict[str, Any]]:
        """The build records of a stage that led to an artifact, by its digest, newest last."""
        return [record for record in self.builds_of(stage) if record["artifact"] == artifact]

    def _known_build(self, path: Path) -> dict[str, Any] | None:
        """A build record, parsed once for each state of its file: a plan asks for all of a stage several times."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._builds.get(path, (None, None))[0] != state:
            self._builds[path] = (state, _read_build(path))
        return self._builds[path][1]

    def record_jobs(self, stage: str, key: str, jobs: Iterable[str]) -> None:
        """Note which jobs a build has used: they save work for later builds, so they stay as long as it does."""
        write_json(self._build_path(stage, key).with_suffix(".jobs"), sorted(jobs))

    def jobs_of(self, stage: str, key: str) -> list[str]:
        """The keys of the jobs that a build has used."""
        found = read_json(self._build_path(stage, key).with_suffix(".jobs"))
        return found if isinstance(found, list) else []

    def _build_path(self, stage: str, key: str) -> Path:
        return self.builds / stage / f"{key}.json"


def _read_build(path: Path) -> dict[str, Any] | None:
    return whole_build(path, read_json(path))


def whole_build(name: Path | str, record: Any) -> dict[str, Any] | None:
    """A build record that has what decisions need; None for another, damaged or cut."""
    if not isinstance(record, dict):
        return None
    _check_format(name, record)
    whole = all(isinstance(record.get(name), kind) for name, kind in _NEEDED.items()) and all(
        isinstance(record["identity"].get(name), kind) for name, kind in _NEEDED_OF_IDENTITY.items()
    )
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    return record if whole and record.get(CHECKSUM) == digest_of(content) else None


def _check_format(path: Path | str, record: Mapping[str, Any]) -> None:
    """Raise StoreError for what a newer version has written: to misread it would be worse than to stop."""
    number = record.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise StoreError(
            f"{path}: written by a newer llmill (format {number}, this one reads {FORMAT}). "
            "Update llmill, or set LLMILL_HOME to another folder."
        )


def seal(path: Path) -> str:
    """Make a file immutable and durable; returns its SHA-256."""
    digest = digest_file(path)
    fsync_path(path)
    path.chmod(0o444)
    os.utime(path, (PUBLISHED_TIME, PUBLISHED_TIME))
    return digest


def _part(name: str, digest: str, path: Path, files: list[tuple[str, str, int]]) -> Part:
    return Part(name, digest, path, tuple(StoredFile(file, sha, size, path / file) for file, sha, size in files))


def is_intact(file: StoredFile, *, full: bool = False) -> bool:
    """Size and modification time; the full SHA-256 where those moved or on demand."""
    try:
        status = file.path.stat()
        if status.st_size != file.bytes:
            return False
        if status.st_mtime == PUBLISHED_TIME and not full:
            return True
        intact = digest_file(file.path) == file.digest
        with suppress(OSError):  # a read-only store is read, not repaired
            # Of a damaged file the time is moved, so that a cheap check finds the damage too.
            os.utime(file.path, (PUBLISHED_TIME, PUBLISHED_TIME) if intact else None)
        return intact
    except (FileNotFoundError, NotADirectoryError):
        return False
