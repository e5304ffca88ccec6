"""Where one build of a stage happens: private folders, the work on shards, progress.

```
work/<stage>-<key>/parts/<part>/   what the stage writes; moved into the store on success
work/<stage>-<key>/jobs/<key>/     what a shard's work writes
work/<stage>-<key>/keep/           survives a kill: checkpoints; beside it what is known of shards (unfinished.py)
```
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.canonical import digest_of
from storage.files import link_or_copy, remove_tree
from storage.fingerprint import fingerprint
from storage.store.artifacts import Part, StoredFile
from storage.store.local import JobRecord, Store
from tasks.engine.config import StageConfig
from tasks.engine.context import Execution, Job, JobResult, ShardFunction, Summary
from tasks.engine.decide import Identity
from tasks.engine.executor import Executor, ShardWork, Written
from tasks.engine.meter import Meter, Progress
from tasks.engine.unfinished import (
    FORCED_FILE,
    KEPT,
    SHARDS_FILE,
    FinishedShards,
    finished_shards,
    note_attempt,
    note_shards,
    work_folder,
)

NOTED_SECONDS = 1.0  # so often at most it is noted how many shards are finished


class Workspace:
    """The `Context` of one build."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        parts: tuple[str, ...],
        fresh: bool,
        kept: bool,
        execution: Execution,
        executor: Executor,
        on_progress: Callable[[Progress], None],
        on_metrics: Callable[[Sequence[Mapping[str, float]]], None],
    ) -> None:
        self.execution = execution
        self._store, self._stage, self._names, self._executor = store, identity.stage, parts, executor
        self._on_progress, self._on_metrics = on_progress, on_metrics
        self._fresh = fresh  # a forced build works on every shard again, and goes on from its own checkpoints alone
        self._kept = kept  # takes over what other code has made of the same shards
        self._libraries = dict(identity.libraries)
        self._basis = {"stage": identity.stage, "version": identity.version, "libraries": self._libraries}
        self._root = work_folder(store.work, identity.stage, identity.key)
        self._linked: dict[str, dict[str, StoredFile]] = {name: {} for name in parts}
        self._meter = Meter()
        self.jobs: set[str] = set()  # keys of the jobs that this build has used
        self._shards: dict[str, bool] = {}  # by name, whether a job of the shard was worked on
        self._repeated = 0  # shards that were done again, since their worker had died
        self._root.mkdir(parents=True, exist_ok=True)  # while it is there, the stage's jobs and shards stay
        note_attempt(self._root, identity.record())
        if fresh and not (self._root / KEPT / FORCED_FILE).exists():
            remove_tree(self._root / KEPT)
            (self._root / SHARDS_FILE).unlink(missing_ok=True)
        before = finished_shards(self._root)
        self._shard_seconds = before.seconds if before else 0.0  # spent on shards that are finished
        self._shards_noted = time.monotonic()
        self.resumed = (self._root / KEPT).is_dir()  # a build that was cut off left something to go on with
        for leftover in ("parts", "jobs"):  # of a build that was killed; the caller holds the key's lock
            remove_tree(self._root / leftover)

    @property
    def work(self) -> Path:
        path = self._root / KEPT
        if not path.is_dir():
            path.mkdir(parents=True)
            if self._fresh:
                (path / FORCED_FILE).touch()
        return path

    def part(self, name: str) -> Path:
        if name not in self._names:
            raise KeyError(f"stage {self._stage} declares no part {name!r}")
        path = self._root / "parts" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def link(self, part: str, name: str, file: StoredFile) -> None:
        target = self.part(part) / name
        link_or_copy(file.path, target)
        self._linked[part][name] = file

    def map(self, function: ShardFunction, jobs: Sequence[Job], unit: str = "shards") -> list[JobResult]:
        reach = fingerprint(function.__module__, function.__qualname__)
        code = reach.code
        keys = [_job_key(self._basis, code, job) for job in jobs]
        distinct = dict(zip(keys, jobs, strict=True))  # equal shards are worked on once
        self.jobs.update(distinct)
        alike = {key: _job_key({**self._basis, "near": "in all but code"}, {}, job) for key, job in distinct.items()}
        known = {} if self._fresh else self._known(alike)
        results = {key: (job.files, job.summary) for key, job in known.items()}
        near = {key: [_near_key(self._basis, code, job, one) for one in job.near] for key, job in distinct.items()}
        self.jobs.update(*near.values())
        waiting = {key: self._with_previous(job, near[key]) for key, job in distinct.items() if key not in results}
        for job, key in zip(jobs, keys, strict=True):
            self._shards[job.name] = key in waiting or self._shards.get(job.name, False)
        self.progress(len(results), len(distinct), unit)
        begun, spent = time.monotonic(), self._shard_seconds
        work = [
            ShardWork(key, self._stage, function, job, self._store.home, self._root / "jobs" / key, self._libraries)
            for key, job in waiting.items()
        ]
        with closing(self._executor.run(work)) as written:
            for one in written:
                key = one.key
                # The job's own last: where it is, a kill has left out none. Of code edited meanwhile: of no use later.
                names = [] if reach.changed() else [*near[key], key]
                results[key] = self._record_job(one, names, alike[key])
                self._repeated += one.attempts > 1
                self.progress(len(results), len(distinct), unit, **self._repeats())
                self._shard_seconds = spent + time.monotonic() - begun
                self._note_shards(FinishedShards(len(results), len(distinct), unit, self._shard_seconds))
        return [JobResult(job.name, *results[key]) for job, key in zip(jobs, keys, strict=True)]

    def progress(self, done: float, total: float, unit: str, **figures: Any) -> None:
        self._on_progress(self._meter.at(done, total, unit, **figures))

    def metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        self._on_metrics(rows)

    # The engine's side ------------------------------------------------------------------------------------------

    def shards(self) -> dict[str, int]:
        """How many shards were worked on, how many of them again since a worker had died, and how many came out of
        earlier builds; empty for a stage without any."""
        built = sum(self._shards.values())
        counts = {"shards_built": built, "shards_reused": len(self._shards) - built}
        return counts | self._repeats() if self._shards else {}

    def _repeats(self) -> dict[str, int]:
        return {"shards_repeated": self._repeated} if self._repeated else {}

    def publish(self) -> dict[str, Part]:
        """Move every declared part into the store."""
        parts = {}
        for name in self._names:
            folder = self._root / "parts" / name
            if not folder.is_dir():
                raise RuntimeError(f"stage {self._stage} wrote no part {name!r}")
            parts[name] = self._store.publish_part(self._stage, name, folder, self._linked[name])
        return parts

    def remove(self) -> None:
        """Forget everything, checkpoints too: the build is published."""
        remove_tree(self._root)

    def _with_previous(self, job: Job, near: Sequence[str]) -> Job:
        """The job, with what the last one near to it has left among its inputs; a forced build takes nothing over."""
        found = {} if self._fresh or not near else self._store.jobs(near)
        files = next((found[key].files for key in near if key in found), {})
        return replace(job, inputs={**job.inputs, **{f"reused/{name}": file for name, file in files.items()}})

    def _known(self, alike: Mapping[str, str]) -> dict[str, JobRecord]:
        """The results of jobs that are there, by key; under `--keep` also what other code has made of the same."""
        known = self._store.jobs(alike)
        missing = {one: key for key, one in alike.items() if key not in known}
        if self._kept and missing:
            known |= {missing[one]: job for one, job in self._store.jobs_alike(self._stage, missing).items()}
        return known

    def _note_shards(self, finished: FinishedShards) -> None:
        """Keep for an estimate how far the shards are, once in a while."""
        now = time.monotonic()
        if now - self._shards_noted >= NOTED_SECONDS:
            self._shards_noted = now
            note_shards(self._root, finished)

    def _record_job(self, written: Written, names: Sequence[str], alike: str) -> tuple[dict[str, StoredFile], Summary]:
        """Note under each of the names what a shard's work has left in the store."""
        files = [self._store.shard(self._stage, file.name, file.digest, file.bytes) for file in written.files]
        for name in names:
            self._store.record_job(self._stage, name, files, written.summary, alike if name == written.key else "")
        return {file.name: file for file in files}, written.summary


def _job_key(basis: Mapping[str, Any], code: Mapping[str, str], job: Job) -> str:
    config = job.config.identity() if isinstance(job.config, StageConfig) else job.config
    inputs = {role: file.digest for role, file in job.inputs.items()}
    return digest_of({**basis, "code": dict(code), "config": config, "inputs": inputs})


def _near_key(basis: Mapping[str, Any], code: Mapping[str, str], job: Job, near: str) -> str:
    return _job_key({**basis, "near": near}, code, replace(job, inputs={}))
