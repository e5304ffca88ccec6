"""What a stage is: a named function from a config and input artifacts to one output artifact.

```python
@stage("deduplicate", parts=("documents", "ledger"), reads={"collected": ("documents",)})
def deduplicate(config: DeduplicateConfig, collected: Artifact, *, context: Context) -> Summary: ...
```

Calling `deduplicate(config, collected)` hands the call to the engine in force: a planner, a builder, or a builder
inside a Prefect task. `deduplicate.function` is the plain function.
"""

import dataclasses
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from storage.bystander import bystander
from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig

if TYPE_CHECKING:
    from tasks.engine.about import About

UNICODE = "unicode"  # as a library: Python's tables of letters, marks and cases, by the version of Unicode


@dataclass(frozen=True, slots=True)
class Pending:
    """An artifact that is not there yet: what the planner passes on for a stage that will or may be built.

    `call` is the name that the stage is called by; a pipeline may call two of its kind. `stands_for` is as of an
    artifact."""

    stage: str
    call: str = ""
    stands_for: str = ""


Output = Artifact | Pending


def in_place_of(output: Output, earlier: Output) -> Output:
    """An output for those that would read `earlier` without the stage between: they know it by the same name, and so
    build nothing again where the stage has changed nothing."""
    return dataclasses.replace(output, stands_for=earlier.stands_for or earlier.stage)


def is_same(one: Output, other: Output) -> bool:
    """Whether two outputs are there and equal; of a pending one nobody knows."""
    return isinstance(one, Artifact) and isinstance(other, Artifact) and one.digest == other.digest


class Engine(Protocol):
    """What answers a stage call: the planner with what would happen, the builder with an artifact."""

    def call(self, stage: "Stage", config: StageConfig, inputs: Mapping[str, Output]) -> Output: ...


_engine: ContextVar[Engine] = ContextVar("engine")


@contextmanager
def engine_in_force(engine: Engine) -> Iterator[None]:
    """Stage calls inside the block go to this engine."""
    token = _engine.set(engine)
    try:
        yield
    finally:
        _engine.reset(token)


@bystander
def _about(described: str) -> "About":
    """An `About` by its name, imported when somebody asks: an import by the stage would let it enter the key."""
    from tasks.engine.about import About

    module, _, constant = described.rpartition(".")
    return getattr(importlib.import_module(module), constant) if module else About()


@dataclass(eq=False)
class Stage:
    """A named stage around a plain function; calling it asks the engine in force.

    `name` is what a pipeline calls it, `kind` what it makes: builds and artifacts are known by their kind. `optional`
    are inputs that a flow may leave out (None).
    `described` names an `About`; `declared` is when its module was imported: what was saved later is not what this
    process executes.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    parts: tuple[str, ...]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observe: Callable[[Any], dict[str, str]] | None = None
    programs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    version: int = 1
    kind: str = ""
    described: str = ""
    optional: tuple[str, ...] = ()
    declared: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        self.kind = self.kind or self.name

    @property
    def about(self) -> "About":
        """What the stage says about itself."""
        return _about(self.described)

    def named(self, name: str) -> "Stage":
        """The same stage under another name, for a pipeline that calls it twice; either reuses what the other built."""
        return dataclasses.replace(self, name=name)

    def __call__(self, config: StageConfig, *inputs: Output | None) -> Output:
        if len(inputs) > len(self.reads):
            raise TypeError(f"stage {self.name} takes {len(self.reads)} artifacts, not {len(inputs)}")
        named = dict(zip_longest(self.reads, inputs))
        given = {name: output for name, output in named.items() if output is not None}
        if missing := named.keys() - given.keys() - set(self.optional):
            raise TypeError(f"stage {self.name} lacks its input {', '.join(sorted(missing))}")
        try:
            engine = _engine.get()
        except LookupError:
            raise RuntimeError(f"stage {self.name}: no engine; use `with engine_in_force(Builder(home)):`") from None
        return engine.call(self, config, given)


def stage(
    name: str,
    *,
    parts: tuple[str, ...],
    reads: Mapping[str, tuple[str, ...]] | None = None,
    observe: Callable[[Any], dict[str, str]] | None = None,
    programs: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
    version: int = 1,
    about: str = "",
    optional: tuple[str, ...] = (),
) -> Callable[[Callable[..., dict[str, Any]]], Stage]:
    """Declare a stage. `reads` names the parts read of each artifact parameter; only these enter the key.

    `about` names what it says about itself (`tasks.filter.about.FILTER`): by name, since importing it would let it
    enter the key.
    """

    def declare(function: Callable[..., dict[str, Any]]) -> Stage:
        made = Stage(name, function, parts, reads or {}, observe, programs, libraries, version, "", about, optional)
        functools.update_wrapper(made, function)
        return made

    return declare
