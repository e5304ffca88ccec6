"""A store that several machines share: the local store as a cache, with a remote behind it (remote.py, leases.py).

```
builds/<stage>/<key>.json     as in a home; with <key>.jobs
store/artifacts/<digest>.json
store/jobs/<key>.json
store/blobs/<stage>/<sha256>  every file of a part and every shard, once in each stage
store/refs/<generation>.json  the names, one object for each change: all that they ever were
runs/<run>.json               runs that have ended
leases/<key>/                 who builds what
```

What is built is published at home first, then here: blobs, jobs, manifest, and last the build record, so that whoever
finds the record finds everything. Decisions ask here too. A part that is here counts as there: it is found by name
and size, and downloaded (SHA-256 compared) when somebody reads it. What could not be sent stays at home, is sent
when the run ends or by the next run that reuses it, and is reported.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from storage.canonical import digest_of
from storage.errors import StoreError
from storage.files import link_or_copy, locked, remove_tree, write_atomic, write_json
from storage.store.artifacts import Artifact, Part, StoredFile
from storage.store.leases import home_identity, leased, nobody
from storage.store.local import DamagedError, JobRecord, OnProgress, Store, is_intact, seal, silent, whole_build
from storage.store.remote import Remote, remote_in_force
from storage.waiting import Waiting

GENERATIONS = "store/refs"
KNOWN_RUNS = 200  # so many of the newest are brought home


def open_store(home: Path) -> Store:
    """The store of a home: shared where LLMILL_STORE names a place, else the home's own.

    Raises StoreError, within seconds, where that place does not answer or may not be read.
    """
    remote = remote_in_force()
    if remote is None:
        return Store(home)
    remote.check()
    return SharedStore(home, remote)


class SharedStore(Store):
    """The store of a home with a remote behind it."""

    def __init__(self, home: Path, remote: Remote) -> None:
        super().__init__(home)
        self.own = Store(home)  # what this home has by itself
        self.remote = remote
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="sender")
        self._sending: list[Future[None]] = []
        self._there: set[str] = set()  # keys of objects that are known to be in the remote
        self._unsent: dict[str, Mapping[str, Any]] = {}  # build records by key
        self._generation = 0  # of the names, as last read

    @contextmanager
    def lock(
        self, key: str, seconds: float, waiting: Waiting = nobody, holder: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        with (
            self.own.lock(key, seconds, waiting, holder),
            leased(self.remote, key, home_identity(self.work), seconds, waiting, holder),
        ):
            yield

    # Finding ----------------------------------------------------------------------------------------------------

    def build(self, stage: str, key: str) -> dict[str, Any] | None:
        """The newer of the record here and the one at home."""
        name = f"builds/{stage}/{key}.json"
        here, own = self._build_of(name, self.remote.read(name)), self.own.build(stage, key)
        if here is not None and (own is None or own["finished"] < here["finished"]):
            self.own.record_build(here)
            own = here
        if here is not None and own == here:
            self._there.add(name)
        return own

    def builds_of(self, stage: str) -> list[dict[str, Any]]:
        """All build records of a stage; those that this home has not seen are remembered in it."""
        folder = f"builds/{stage}"
        known = {path.name for path in (self.builds / stage).glob("*.json")}
        new = [f"{folder}/{name}" for name in self.remote.names(folder) if name.endswith(".json") and name not in known]
        for name, data in self.remote.read_all(new).items():
            record = self._build_of(name, data)
            if record is not None:
                self.own.record_build(record)
        return self.own.builds_of(stage)

    def _build_of(self, name: str, data: bytes | None) -> dict[str, Any] | None:
        """A whole record that is stored under its own name."""
        record = whole_build(f"{self.remote.name}/{name}", _json(data))
        return record if record is not None and name == f"builds/{record['stage']}/{record['key']}.json" else None

    def jobs_of(self, stage: str, key: str) -> list[str]:
        path = self._build_path(stage, key).with_suffix(".jobs")
        if not path.exists() and (data := self.remote.read(self._key(path))) is not None:
            write_atomic(path, data)
        return self.own.jobs_of(stage, key)

    def artifact(self, digest: str) -> Artifact | None:
        own = self.own.artifact(digest)
        if own is not None:
            return own
        manifest = _json(self.remote.read(self._key(self._artifact_path(digest))))
        if not isinstance(manifest, dict) or digest_of(manifest) != digest:
            return None
        write_json(self._artifact_path(digest), manifest)
        return self.own.artifact(digest)

    def artifacts(self) -> Iterator[str]:
        there = {Path(name).stem for name in self.remote.names("store/artifacts") if name.endswith(".json")}
        yield from sorted({*self.own.artifacts(), *there})

    def artifact_damage(self, artifact: Artifact, *, full: bool = False) -> list[str]:
        """What is wrong with an artifact here and at home: a file that is whole in one of them is not lost."""
        files = {
            f"{part.name}/{file.name}": file
            for part in artifact.parts.values()
            for file in part.files
            if not is_intact(file, full=full)
        }
        there = self.remote.sizes(_blobs(artifact.stage), [file.digest for file in files.values()])
        return [f"part missing: {name}" for name, file in files.items() if there.get(file.digest) != file.bytes]

    # Bringing home ----------------------------------------------------------------------------------------------

    def fetch(self, artifact: Artifact, on_progress: OnProgress = silent) -> None:
        lacking = [part for part in artifact.parts.values() if self.damage(part)]
        total, done = sum(part.bytes for part in lacking), 0
        for part in lacking:
            self._fetch_part(artifact.stage, part, _shifted(on_progress, done, total))
            done += part.bytes

    def _fetch_part(self, stage: str, part: Part, on_progress: OnProgress) -> None:
        """Under a lock, and in a folder, that `gc` takes for those of a build under way."""
        digits = part.digest[:16]
        with locked(self.work / f"{digits}.fetch.lock"):
            if not self.damage(part):  # another process of this home was faster
                return
            folder = self.work / f"fetch-{digits}"
            remove_tree(folder)
            lacking = []
            for file in part.files:
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shard = StoredFile(file.name, file.digest, file.bytes, self._shard_path(stage, file.digest))
                own = next((one for one in (file, shard) if is_intact(one)), None)
                if own is None:
                    lacking.append(StoredFile(file.name, file.digest, file.bytes, target))
                else:
                    link_or_copy(own.path, target)
            self._download(stage, lacking, on_progress)
            with self.unswept():
                self.publish_part(stage, part.name, folder, {file.name: file for file in part.files})

    def jobs(self, keys: Iterable[str]) -> dict[str, JobRecord]:
        """The results of those jobs that somebody has done; their files are at hand."""
        wanted = list(keys)
        found = self.own.jobs(wanted)
        missing = [key for key in wanted if key not in found]
        for name, data in self.remote.read_all([self._key(self._job_path(key)) for key in missing]).items():
            write_atomic(self.home / name, data)
        records = {key: record for key in missing if (record := self._job(key))}
        self._fetch_shards(record for record in records.values())
        return found | self.own.jobs(records)

    def _fetch_shards(self, records: Iterable[JobRecord]) -> None:
        """Bring the files of jobs home, as far as they are whole here; the others are worked on again."""
        wanted = {
            (record.stage, file.digest): file
            for record in records
            for file in record.files.values()
            if not is_intact(file)
        }
        for stage in sorted({stage for stage, _ in wanted}):
            files = [file for (of, _), file in wanted.items() if of == stage]
            there = self.remote.sizes(_blobs(stage), [file.digest for file in files])
            files = [file for file in files if there.get(file.digest) == file.bytes]
            folder = self.work / f"fetch-{digest_of([file.digest for file in files])[:16]}"
            with locked(self.work / f"{folder.name[-16:]}.fetch.lock"):
                remove_tree(folder)
                folder.mkdir(parents=True)
                moving = [StoredFile(file.name, file.digest, file.bytes, folder / file.digest) for file in files]
                with suppress(DamagedError):
                    self._download(stage, moving, silent)
                for file in moving:
                    if is_intact(file):
                        self.publish_shard(stage, file.path)
                remove_tree(folder)

    def _download(self, stage: str, files: Sequence[StoredFile], on_progress: OnProgress) -> None:
        """Download and compare. What is not what it should be goes out of the remote, so that it is made again."""
        self.remote.download([(_blob(stage, file), file.path, file.bytes) for file in files], on_progress)
        damaged = []
        for file in files:
            if file.path.exists() and seal(file.path) == file.digest:
                continue
            damaged.append(file)
            file.path.unlink(missing_ok=True)
            self._there.discard(_blob(stage, file))
            self.remote.delete(_blob(stage, file))
        if damaged:
            raise DamagedError(
                f"{self.remote.name}: {damaged[0].name} of {stage} was damaged or gone; what was left of it has been "
                "removed. Run the same command again: it is built again"
            )

    # Sending ----------------------------------------------------------------------------------------------------

    def record_build(self, record: dict[str, Any]) -> None:
        super().record_build(record)
        self._there.discard(self._key(self._build_path(record["stage"], record["key"])))  # it may be a new one

    def record_job(
        self, stage: str, key: str, files: list[StoredFile], summary: dict[str, Any], alike: str = ""
    ) -> None:
        """Kept at home, and sent while other shards are worked on: should this worker die, another goes on."""
        super().record_job(stage, key, files, summary, alike)
        self._sending.append(self._sender.submit(self._send_jobs, stage, [key]))

    def share(self, record: Mapping[str, Any], on_progress: OnProgress = silent) -> None:
        """Send a build and all that it holds, unless it is there; what cannot be sent now waits for `share_pending`."""
        try:
            self._send(record, on_progress)
        except StoreError:
            self._unsent[record["key"]] = record
        else:
            self._unsent.pop(record["key"], None)

    def share_pending(self) -> None:
        """Send what was left; raises StoreError where that cannot be: all of it stays at home for the next run."""
        for key, record in list(self._unsent.items()):
            self._send(record, silent)
            del self._unsent[key]

    def _send(self, record: Mapping[str, Any], on_progress: OnProgress) -> None:
        """Blobs, jobs, manifest, and last the record."""
        stage, path = record["stage"], self._build_path(record["stage"], record["key"])
        if self._key(path) in self._there:
            return
        waiting, self._sending = self._sending, []
        for future in waiting:
            future.exception()  # what has failed there is sent here
        artifact = self.own.artifact(record["artifact"])
        if artifact is None:
            raise StoreError(f"{self._artifact_path(record['artifact'])}: the manifest is gone, so it cannot be sent")
        self._send_blobs(stage, [file for part in artifact.parts.values() for file in part.files], on_progress)
        self._send_jobs(stage, self.own.jobs_of(stage, record["key"]))
        self._write(self._artifact_path(artifact.digest))
        if path.with_suffix(".jobs").exists():
            self._write(path.with_suffix(".jobs"))
        self._write(path)

    def _send_jobs(self, stage: str, keys: Sequence[str]) -> None:
        """Jobs whose files are at home: first the files, then the records."""
        jobs = self.own.jobs(keys)
        self._send_blobs(stage, [file for job in jobs.values() for file in job.files.values()], silent)
        paths = [path for key in jobs if self._key(path := self._job_path(key)) not in self._there]
        there = self.remote.sizes("store/jobs", [path.name for path in paths])
        for path in paths:
            if there.get(path.name) != path.stat().st_size:
                self._write(path)

    def _send_blobs(self, stage: str, files: Sequence[StoredFile], on_progress: OnProgress) -> None:
        """Upload those that are not there yet, by name and size."""
        distinct = {file.digest: file for file in files if _blob(stage, file) not in self._there}
        there = self.remote.sizes(_blobs(stage), distinct)
        lacking = [file for file in distinct.values() if there.get(file.digest) != file.bytes]
        gone = next((file for file in lacking if not is_intact(file)), None)
        if gone is not None:
            raise StoreError(f"{gone.path}: is gone or damaged, so it cannot be sent. Run the same command again")
        self.remote.upload({_blob(stage, file): file.path for file in lacking}, on_progress)
        self._there |= {_blob(stage, file) for file in distinct.values()}

    def _write(self, path: Path) -> None:
        self.remote.write(self._key(path), path.read_bytes())
        self._there.add(self._key(path))

    # Runs and names ---------------------------------------------------------------------------------------------

    def share_run(self, path: Path) -> None:
        self._write(path)

    def sync_runs(self) -> None:
        names = sorted((name for name in self.remote.names("runs") if name.endswith(".json")), key=_started)
        new = [f"runs/{name}" for name in names[-KNOWN_RUNS:] if not (self.home / "runs" / name).exists()]
        for name, data in self.remote.read_all(new).items():
            write_atomic(self.home / name, data)

    def share_recipe(self, path: Path) -> None:
        self._write(path)

    def sync_recipes(self) -> None:
        names = [f"recipes/{name}" for name in self.remote.names("recipes")]
        for name, data in self.remote.read_all(names).items():
            write_atomic(self.home / name, data)

    def read_names(self) -> bytes | None:
        """The newest generation. A file that only this home has is from before it had a shared store, and is sent."""
        own, generations = self.own.read_names(), self._generations()
        if own is not None and not generations:
            self.remote.create(self._generation_key(1), own)  # who is slower takes what the other has sent
            generations = self._generations()
        self._generation = max(generations, default=0)
        there = self.remote.read(self._generation_key(self._generation)) if generations else None
        if there is not None:
            write_atomic(self.names_path, there)
        return self.own.read_names()

    def write_names(self, data: bytes) -> None:
        """As the next generation, which one writer alone can make: a lease may run out unnoticed, this cannot."""
        if not self.remote.create(self._generation_key(self._generation + 1), data):
            raise StoreError(f"{self.remote.name}: the names were changed meanwhile by another worker. Do it again")
        self._generation += 1
        self.own.write_names(data)

    def _generations(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self.remote.names(GENERATIONS))
        return [int(stem) for stem in stems if stem.isdecimal()]

    def _generation_key(self, generation: int) -> str:
        return f"{GENERATIONS}/{generation:09d}.json"

    def _key(self, path: Path) -> str:
        return path.relative_to(self.home).as_posix()


def _blobs(stage: str) -> str:
    return f"store/blobs/{stage}"


def _blob(stage: str, file: StoredFile) -> str:
    return f"{_blobs(stage)}/{file.digest}"


def _json(data: bytes | None) -> Any | None:
    try:
        return json.loads(data or b"")
    except ValueError:
        return None


def _shifted(on_progress: OnProgress, before: int, total: int) -> OnProgress:
    return lambda done, _: on_progress(before + done, total)


def _started(name: str) -> str:
    """The date and time in a run's name: recipe-size-DATE-TIME-digits.json."""
    return "-".join(name.split("-")[-3:-1])
