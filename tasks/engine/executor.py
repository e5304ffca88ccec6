"""Who works on shards: this process, worker processes, or Ray (ray_executor.py), behind one protocol.

A worker gets a shard's work, writes files into a folder of its own and publishes them in the store. What it returns is
what it wrote, named by address: whoever has the store finds it, on whatever machine the worker was.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from storage.processes import watch_parent
from storage.store.local import Store
from tasks.engine.context import Execution, Job, ShardFunction, Summary


@dataclass(frozen=True, slots=True)
class ShardWork:
    """A job under its key: the function to call, the stage that it works for, the home whose store takes what it writes
    into its private folder."""

    key: str
    stage: str
    function: ShardFunction
    job: Job
    home: Path
    folder: Path
    libraries: Mapping[str, str]  # versions that decide the result, as in the stage's key


@dataclass(frozen=True, slots=True)
class Address:
    """A shard's file in the store: its SHA-256, beside the name that it goes by and its size in bytes."""

    name: str
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """What the work of a key has left, at the first attempt, or at a later one where workers have died of it."""

    key: str
    files: tuple[Address, ...]
    summary: Summary
    attempts: int = 1


class Executor(Protocol):
    """Whoever carries shards' work out."""

    def run(self, work: Sequence[ShardWork]) -> Generator[Written, None, None]:
        """Each piece's result as soon as it is there, in any order. An error of one is raised; then, and where the
        iterator is closed before its end, nothing goes on."""
        ...

    def close(self) -> None:
        """Let go of what workers hold; they are started again when they are needed."""
        ...


def executor_of(execution: Execution) -> Executor:
    """The executor that the settings ask for; nothing is started before it is needed."""
    if execution.executor == "ray":
        from tasks.engine.ray_executor import RayExecutor

        return RayExecutor(execution.workers, execution.ray_address)
    return SerialExecutor() if execution.workers == 1 else ProcessExecutor(execution.workers)


class SerialExecutor:
    """One piece after another, in this process."""

    def run(self, work: Sequence[ShardWork]) -> Generator[Written, None, None]:
        for one in work:
            yield carry_out(one)

    def close(self) -> None:
        """There is nothing to let go of."""


class ProcessExecutor:
    """Worker processes, which are started once and die with their parent."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, work: Sequence[ShardWork]) -> Generator[Written, None, None]:
        if len(work) == 1:  # a process would take longer to start
            yield carry_out(work[0])
            return
        futures = [self._started().submit(carry_out, one) for one in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            self._kill()  # what they are at would be thrown away, and may never end
            raise

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),)
            )
        return self._pool

    def _kill(self) -> None:
        """End the workers at once, whatever they are doing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list((pool._processes or {}).values()):  # public from Python 3.14 on: kill_workers
                process.kill()
            pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the shards are the unit of parallelism
    watch_parent(parent)


def carry_out(work: ShardWork) -> Written:
    """Do a piece of work in this process, and publish what it has written."""
    store = Store(work.home)
    work.folder.mkdir(parents=True, exist_ok=True)
    summary = work.function(work.job.config, {role: file.path for role, file in work.job.inputs.items()}, work.folder)
    files = [store.publish_shard(work.stage, path) for path in sorted(work.folder.iterdir())]
    work.folder.rmdir()
    return Written(work.key, tuple(Address(file.name, file.digest, file.bytes) for file in files), summary)
