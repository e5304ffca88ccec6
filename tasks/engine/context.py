"""What the engine gives a stage while it builds.

A stage is a plain function `stage(config, *input artifacts, context) -> summary`. It reads parts of its inputs,
writes files into `context.part(NAME)` folders and returns a summary: a flat JSON-able mapping of figures that a
person wants to see (counts first). It never sees keys, locks, caches, Prefect or MLflow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from storage.store.artifacts import StoredFile
from tasks.engine.config import StageConfig
from tasks.engine.retries import MAX_MINUTES, MAX_RETRIES, Limits, StageLimits

Summary = dict[str, Any]


class Execution(StageConfig):
    """How a run is carried out: nothing here changes what comes out, so nothing here enters a key. (`processes` changes
    the order of sums; the build record says so.)"""

    workers: int = Field(2, ge=1, le=256, description="Shards of the data stages that are worked on at a time.")
    executor: Literal["processes", "ray"] = Field(
        "processes", description="Who works on shards: processes of this machine, or Ray."
    )
    ray_address: str | None = Field(
        None,
        max_length=300,
        pattern=r"^(auto|(ray://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5})$",
        description="A Ray cluster: host:port, ray://host:port, or auto; empty: one of the run's own on this machine.",
    )
    checkpoint_interval: int = Field(200, ge=1, le=10_000_000, description="Optimizer steps between two checkpoints.")
    checkpoints_kept: int = Field(2, ge=1, le=1000, description="Checkpoints of a training that are kept, the newest.")
    processes: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Training processes instead of the recipe's, where machines are missing; changes weights by "
        "rounding, which is recorded.",
    )
    nodes: int = Field(
        1, ge=1, le=1024, description="Machines that train together: the run's and those of `llmill join`."
    )
    node_address: str | None = Field(
        None,
        max_length=300,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}$",
        description="Where several machines meet: host:port of the one of the run, as the others reach it.",
    )
    node_wait_seconds: float = Field(
        600.0, ge=1, le=604_800, description="How long machines that train together wait for each other to come."
    )
    silence_seconds: float = Field(
        600.0, ge=5, le=86_400, description="A training process without a sign of life for so long hangs: tried again."
    )
    log_interval: int = Field(10, ge=1, le=10_000_000, description="Optimizer steps between two points of a chart.")
    retries: int = Field(
        2, ge=0, le=MAX_RETRIES, description="Retries of a stage after an error of network or database."
    )
    retry_delay_seconds: float = Field(
        2.0, ge=0, le=3600, description="Wait before the first retry, give or take half; doubles with each."
    )
    timeout_minutes: float | None = Field(
        None, gt=0, le=MAX_MINUTES, description="Minutes that an attempt at a stage may take; empty: no limit."
    )
    stages: dict[str, StageLimits] = Field(
        {}, title="Limits by stage", description="Retries and timeouts of single stages, by their names."
    )
    lease_seconds: float = Field(
        60.0, ge=2, le=3600, description="A worker of a shared store that is silent for so long is taken for dead."
    )
    price_per_hour: float = Field(
        0.0, ge=0, le=100_000, description="What an hour of this machine costs, in your currency; 0: not shown."
    )

    @model_validator(mode="after")
    def _an_address_is_used(self) -> Self:
        if self.ray_address is not None and self.executor != "ray":
            raise ValueError("ray_address is set, but executor is not ray: set executor=ray too, or leave it out")
        return self

    @model_validator(mode="after")
    def _several_machines_meet_somewhere(self) -> Self:
        if (self.nodes > 1) != (self.node_address is not None):
            raise ValueError("nodes and node_address: several machines need both, a single one neither")
        if self.node_address is not None:
            host, _, port = self.node_address.rpartition(":")
            if not 1 <= int(port) <= 65_535:
                raise ValueError(f"node_address: {port} is no port: give one from 1024 to 65535")
            if host in ("0.0.0.0", "[::]"):
                raise ValueError("node_address: give the one address of the run's machine that the others come to")
        return self

    def check_nodes(self, processes: Mapping[str, int]) -> None:
        """Raise ValueError unless several machines can share out the processes of each section equally."""
        fields = {f"{section}.processes": count for section, count in processes.items()}
        if self.processes is not None:
            fields = {"execution.processes": self.processes}
        if self.nodes > 1 and max(fields.values()) == 1:
            raise ValueError(
                f"execution.nodes is {self.nodes}, and each training has one process: set {next(iter(fields))}"
            )
        for name, count in fields.items():
            if count > 1 and count % self.nodes:
                raise ValueError(
                    f"{name}: {count} cannot be shared out equally to {self.nodes} machines (execution.nodes)"
                )

    def limits(self, stage: str) -> Limits:
        """What holds for a stage: its own limits, else those for all."""
        own = self.stages.get(stage) or StageLimits()
        retries = self.retries if own.retries is None else own.retries
        if own.timeout_minutes is None:
            return Limits(retries, self.timeout_minutes, "execution.timeout_minutes")
        return Limits(retries, own.timeout_minutes, f"execution.stages.{stage}.timeout_minutes")


@dataclass(frozen=True, slots=True)
class Job:
    """A shard's work: a name, a JSON-able config, and the files it reads by role.

    Jobs of one function and config that have a value of `near` in common are likely to share documents: the function
    finds what the last of them has left as inputs `reused/NAME`, and may take results over from there
    (tasks/shards/reuse.py).
    """

    name: str
    config: Any
    inputs: Mapping[str, StoredFile] = field(default_factory=dict)
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a shard's work left in the store: its files by name, and its own summary."""

    name: str
    files: Mapping[str, StoredFile]
    summary: Summary


ShardFunction = Callable[[Any, dict[str, Path], Path], Summary]


class Context(Protocol):
    """The engine as a stage sees it."""

    execution: Execution

    @property
    def work(self) -> Path:
        """A private folder of this very build that survives a kill: checkpoints. Removed after success."""
        ...

    def part(self, name: str) -> Path:
        """The private folder in which the files of one declared part are written."""
        ...

    def link(self, part: str, name: str, file: StoredFile) -> None:
        """Put a file that the store already holds into a part, without copying it."""
        ...

    def map(self, function: ShardFunction, jobs: Sequence[Job], unit: str = "shards") -> list[JobResult]:
        """Run `function(job.config, {role: path}, output folder) -> summary` for each job, in order of the jobs.

        The function is at the top level of its module. Each job is cached by its own key (the function's
        fingerprint, its config, the digests of its inputs), so that new data costs new shards and a killed stage
        goes on with what is missing. Every file the function writes into its output folder is published.
        What an earlier job near to it has left may save work and must never change what comes out.
        """
        ...

    def progress(self, done: float, total: float, unit: str, **figures: Any) -> None:
        """Show how far the stage is; rate and time left are worked out from the calls."""
        ...

    def metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Forward rows of `{"step": n, name: value, ...}` to the tracking server."""
        ...
