"""The settings of a training run: one JSON file, for a trainer that runs alone in a child process."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from model.lora import LowRank, settings_of
from model.optimizer import OptimizerSettings
from model.preferences import Preference
from model.schedule import Schedule
from model.shape import Dropout, Shape
from storage.canonical import canonical_json, digest_of
from storage.errors import ConfigError

# What is learned; model/loss.py says how.
Objective = Literal["next_token", "masked_words", "answers", "preferences", "classes"]


@dataclass(frozen=True, slots=True)
class Source:
    """Data to train on or to be scored: a folder with a token set (`packed`; `masked`, tokens of it hidden) or examples
    (`examples`, `preferences`, `classes`).

    `order` is a folder that says which documents of a token set are trained on, and when; empty: all, as they lie.
    """

    kind: Literal["packed", "masked", "examples", "preferences", "classes"]
    folder: str
    order: str = ""


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """Learning from a teacher's scores beside the text (model/distillation.py).

    `weight` is the share of the soft targets in the loss (0 to 1). `earlier_self` is the share of the steps (0 to 1)
    after which the trainer's own weights of that moment are the teacher; None: another model is, from the first step.
    """

    weight: float
    temperature: float
    earlier_self: float | None = None

    def first_step(self, steps: int) -> int:
        """How many of a run's steps have no teacher."""
        return 0 if self.earlier_self is None else min(max(1, round(self.earlier_self * steps)), steps - 1)


SOFTENED: tuple[Objective, ...] = ("next_token", "answers")  # whose loss can have soft targets


@dataclass(frozen=True, slots=True)
class Node:
    """One of several machines that train together: `number` of `count`, from 0. Their ranks, equally many on each, meet
    at `meeting` (host:port), which the launcher of the first opens."""

    number: int
    count: int
    meeting: str


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A whole training run. Fields named in PLACES say where and how it is carried out; all others decide it."""

    objective: Objective
    shape: Shape
    optimizer: OptimizerSettings
    schedule: Schedule
    data: Source
    data_digest: str
    rows_per_step: int
    micro_batch_tokens: int
    seed: int
    dtype: Literal["float32", "bfloat16"]
    device: str
    threads: int  # of each process
    validation: dict[str, Source]  # scored at the end; the first, the headline, at intervals too
    validation_interval: int
    validation_tokens: int
    work: str
    output: str
    checkpoint_interval: int
    checkpoints_kept: int = 2
    spike_factor: float | None = None  # how many times the median of the last losses is a spike; None: none is
    patience: int | None = None  # validations without a better one after which it ends, with the best weights
    processes: int = 1  # that train together (model/ranks.py)
    processes_now: int | None = None  # instead of those, where machines are missing
    node: Node | None = None  # where they are on several machines: which this is
    sharded: bool = False  # of several, each holds a part of the model, not all of it
    packing: bool = False  # examples of a step share rows; documents are put whole into rows
    apart: bool = False  # documents of a row do not see each other, as examples never do
    short_steps: int = 0  # of which rows are cut in four, then in two
    masked_share: float = 0.0  # of the tokens, that are hidden and filled in
    dropout: float | None = None  # share that is left out in each place of model/dropout.py; None: those of the shape
    shortest_first: bool = False  # the first epoch takes examples from short to long
    compiled: bool = False  # torch.compile, for rows of one length
    optimizer_dtype: Literal["bfloat16"] | None = None  # of Muon's products; None: dtype
    products: Literal["oneDNN"] | None = None  # of float32 on a CPU; None: those of torch's choice
    initial: str | None = None  # folder of the weights to start from
    adapter: LowRank | None = None  # trained beside the initial weights, which stay; merged into the output
    preference: Preference | None = None  # how preferences are learned
    soft_targets: SoftTargets | None = None  # of a teacher, beside the text
    teacher: str = ""  # folder of the teacher's weights; `data_digest` holds their digest
    adapter_output: str = ""  # folder of the adapter alone
    validation_before: dict[str, Source] = field(default_factory=dict)  # scored before the first step
    parent_pid: int | None = None

    PLACES = (
        "data",
        "validation",
        "validation_before",
        "work",
        "output",
        "adapter_output",
        "checkpoint_interval",
        "checkpoints_kept",
        "initial",
        "teacher",
        "parent_pid",
        "node",
        "processes_now",  # a run that goes on with others says so, and its weights are equal to rounding
    )

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise ConfigError(f"objective: {self.objective!r} is not one of {', '.join(get_args(Objective))}")
        if self.ranks < 1:
            raise ConfigError(f"processes: {self.ranks} cannot train; give 1 or more")
        if self.node is not None and self.ranks % self.node.count:
            raise ConfigError(f"processes: {self.ranks} cannot be shared out equally to {self.node.count} machines")
        if self.adapter is not None and self.initial is None:
            raise ConfigError("adapter: there are no initial weights that it could adapt")
        if self.sharded and self.ranks > 1 and self.soft_targets is not None and not self.teacher:
            raise ConfigError(
                "sharded: no process has a whole earlier self to learn from; give the folder of a teacher"
            )
        self._check_teacher()

    def _check_teacher(self) -> None:
        soft = self.soft_targets
        if soft is None:
            return
        if self.objective not in SOFTENED:
            raise ConfigError(f"soft_targets: objective {self.objective} has none; {', '.join(SOFTENED)} can have them")
        if bool(self.teacher) == (soft.earlier_self is not None):
            raise ConfigError("soft_targets: give the folder of a teacher, or earlier_self: one of them")
        if soft.earlier_self is not None and self.schedule.steps < 2:
            raise ConfigError("earlier_self: a training of one step has no earlier self; give it two steps or more")

    @property
    def left_out(self) -> Dropout:
        """The shares that training leaves out."""
        return self.shape.dropout if self.dropout is None else Dropout(self.dropout, self.dropout, self.dropout)

    @property
    def leaves_out(self) -> bool:
        """Whether training has dropout."""
        return self.left_out != Dropout()

    @property
    def ranks(self) -> int:
        """The number of processes that train together now."""
        return self.processes_now or self.processes

    @property
    def ranks_here(self) -> int:
        """The number of those on this machine."""
        return self.ranks // (self.node.count if self.node else 1)

    def identity(self) -> str:
        """Digest of what decides the weights: a checkpoint of another identity is refused."""
        fields = dataclasses.asdict(self)
        return digest_of({name: value for name, value in fields.items() if name not in self.PLACES})

    def write(self, path: Path) -> None:
        path.write_bytes(canonical_json(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "TrainingJob":
        fields: dict[str, Any] = json.loads(path.read_bytes())
        shape = fields["shape"]
        return cls(
            **fields
            | {
                "shape": Shape(**shape | {"classes": tuple(shape["classes"]), "dropout": Dropout(**shape["dropout"])}),
                "optimizer": OptimizerSettings(**fields["optimizer"]),
                "schedule": Schedule(**fields["schedule"]),
                "data": Source(**fields["data"]),
                "adapter": settings_of(fields["adapter"]),
                "node": Node(**fields["node"]) if fields["node"] else None,
                "preference": Preference(**fields["preference"]) if fields["preference"] else None,
                "soft_targets": SoftTargets(**fields["soft_targets"]) if fields["soft_targets"] else None,
                "validation": _sources(fields["validation"]),
                "validation_before": _sources(fields["validation_before"]),
            }
        )


def _sources(fields: dict[str, Any]) -> dict[str, Source]:
    return {name: Source(**source) for name, source in fields.items()}
