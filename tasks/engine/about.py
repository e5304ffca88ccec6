"""What a stage says about itself, so that plans, estimates, MLflow and `llmill explain` know none by its name.

`@stage(..., about="tasks.filter.about.FILTER")` names it; it enters no key. What a stage leaves out has a default that
fits one which reads a part `documents` and writes one: its time grows with the documents that it reads, and it has kept
a document or not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.store.artifacts import Part

DOCUMENTS, LEDGER = "documents", "ledger"  # names of parts

Figures = Mapping[str, Any]  # a summary, or a config as JSON
Summaries = Mapping[str, Figures]  # by kind of stage: of what a stage reads, known or as its last build was
Step = dict[str, Any]  # what a stage has done with one document: `verdict`, and figures of its own


class MadeRun(Protocol):
    """What one run has made, as far as it is there and whole."""

    def part(self, stage: str, name: str) -> Part | None:
        """A part of a stage's artifact."""
        ...

    def read(self, stage: str, name: str) -> Part | None:
        """The part of that name which a stage has read, whichever stage wrote it."""
        ...

    def config(self, stage: str) -> Figures:
        """The settings of a stage; empty where it is not known."""
        ...

    def summary(self, stage: str) -> Figures:
        """The figures of a stage; empty where it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A build to come, as an estimate knows it.

    `labels` are its inputs (`KIND/PART`), `summaries` those of the stages before it, `like` the record of a like build.
    """

    config: Figures
    labels: tuple[str, ...]
    summaries: Summaries
    like: Figures

    def before(self, part: str) -> Figures:
        """The summary of the stage whose part of that name it reads; empty where that is not known."""
        kinds = (label.rpartition(" ")[2].partition("/") for label in self.labels)
        return next((self.summaries.get(kind, {}) for kind, _, name in kinds if name == part), {})


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage's time grows with, in a unit of its own: of a build to come (None where that is not known yet), and
    of one that was made, by its record."""

    ahead: Callable[[Upcoming], float | None]
    done: Callable[[Figures], float | None]


def documents_read() -> Work:
    """Time grows with the documents that a stage reads."""
    return Work(lambda build: build.before(DOCUMENTS).get("kept"), lambda record: record["summary"].get("read"))


def nothing_follows(config: Figures, summaries: Summaries) -> dict[str, Any]:
    """No figure follows from the settings."""
    return {}


def kept_or_dropped(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Whether a stage with a part `documents` has kept a document, and its row of the ledger where it has not."""
    from storage.lookup import place_of, rows_where

    documents, ledger = run.part(stage, DOCUMENTS), run.part(stage, LEDGER)
    if documents is None:
        return None
    if place_of(documents, document["id"]) is not None:
        return {"verdict": "kept"}
    rows = rows_where(ledger, "id", document["id"]) if ledger is not None else []
    return {"verdict": "dropped", **{name: value for row in rows[:1] for name, value in row.items() if name != "id"}}


def figures_of_step(step: Step) -> list[str]:
    """The figures of a step on one line."""
    from tasks.wording import figure

    named = {name: value for name, value in step.items() if name not in ("stage", "verdict")}
    return [", ".join(f"{name.replace('_', ' ')} {figure(value)}" for name, value in named.items())]


def nothing_to_see(recipe: Any, will: str) -> list[str]:
    """No look ahead."""
    return []


@dataclass(frozen=True, slots=True)
class About:
    """How others speak of a stage.

    | field | what it says |
    |---|---|
    | work | what its time grows with; None where that follows from no figure |
    | told_apart_by | fields of its config: builds that have others of them set tell nothing of its time |
    | follows | `(config, summaries)` -> figures that a build to come will have for sure |
    | look | `(recipe, will)` -> what its user should know before anything runs; may raise ConfigError |
    | data, reads_sources | parts that MLflow shows as data sets; whether what it observes outside are sources of data |
    | headline | names of figures of the whole run -> names in its summary |
    | explain | `(run, stage, document)` -> its step in the way of a document, or None |
    | words | a step -> its lines, of which the first is beside the verdict |
    """

    work: Work | None = field(default_factory=documents_read)
    told_apart_by: tuple[str, ...] = ()
    follows: Callable[[Figures, Summaries], dict[str, Any]] = nothing_follows
    look: Callable[[Any, str], list[str]] = nothing_to_see
    data: tuple[str, ...] = ()
    reads_sources: bool = False
    headline: Mapping[str, str] = field(default_factory=dict)
    explain: Callable[[MadeRun, str, Mapping[str, Any]], Step | None] = kept_or_dropped
    words: Callable[[Step], list[str]] = figures_of_step


def not_about_documents(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Of a stage that treats no single document."""
    return None
