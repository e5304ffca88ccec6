"""What a stage says about itself, so that plan, estimates, report, MLflow and `llmill explain` know none by its name.

`@stage(..., about="tasks.filter.about.FILTER")` names it; it enters no key. What a stage leaves out has a default that
fits one which reads a part `documents` and writes one: its time grows with the documents that it reads, it has kept
a document or not, and the report shows how many it dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.store.artifacts import Artifact, Part
from tasks.engine.reported import Reason, Section

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
    """What a stage's time grows with, in a unit of its own (`documents`): how many of a build to come (None where that
    is not known yet), and of one that was made, by its record."""

    unit: str
    ahead: Callable[[Upcoming], float | None]
    done: Callable[[Figures], float | None]


def documents_read() -> Work:
    """Time grows with the documents that a stage reads."""
    return Work(
        "documents", lambda build: build.before(DOCUMENTS).get("kept"), lambda record: record["summary"].get("read")
    )


def examples_learned(unit: str, collected: str, per_step: str) -> Work:
    """Time grows with the examples of a training times the parameters of its model.

    `collected` is the figure of collect that counts them, `per_step` the field of the config that says how many a step
    takes.
    """

    def ahead(build: Upcoming) -> float | None:
        config = build.config
        there = build.summaries.get("collect", {}).get(collected, 0)
        examples = (config["steps"] or 0) * config[per_step] or config["epochs"] * there
        return examples * build.before("model").get("parameters", 0) or None

    def done(record: Figures) -> float:
        summary = record["summary"]
        return float(summary["steps"] * record["identity"]["config"][per_step] * summary["parameters"])

    return Work(f"{unit} times parameters", ahead, done)


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


def what_it_dropped(run: MadeRun, stage: str) -> Section:
    """How many documents a stage has dropped, of whose reasons nothing is known."""
    count = run.summary(stage).get("dropped")
    return Section(reasons=(Reason(name=stage, what=f"Dropped by {stage}", count=count),) if count else ())


def nothing_measured(build: Upcoming, observed: Mapping[str, str]) -> float | None:
    """No figure of other machines tells how long it takes."""
    return None


def no_notices(recipe: Any, will: str) -> list[str]:
    """Nothing that its user should know before."""
    return []


def nothing_compared(config: Any) -> dict[str, Any]:
    """No setting that runs are compared by."""
    return {}


def no_lines(artifact: Artifact, summary: Figures) -> list[tuple[str, str]]:
    """Nothing more to say at the end of a run."""
    return []


def not_about_pairs(run: MadeRun, stage: str, pair: Mapping[str, Any]) -> Step | None:
    """Of a stage that treats no single pair."""
    return None


def knows_no_lost(run: MadeRun, stage: str, wanted: str, whole: bool) -> list[Step]:
    """Of a stage that only treats documents."""
    return []


@dataclass(frozen=True, slots=True)
class About:
    """What others need to know of a stage.

    | field | what it says |
    |---|---|
    | title | its name for people, where that is not the name that the pipeline calls it by |
    | work | what its time grows with; None where that follows from no figure |
    | seconds | `(build to come, what it observes)` -> seconds by figures of other machines, where none was made |
    | same_kinds | fields of its config: only builds that have the same of them set tell how long it takes |
    | expensive | whether the stages after it are checked before it is built |
    | follows | `(config, summaries)` -> figures that a build to come will have for sure |
    | dial, presets | the field of its config that decides others; its values -> the fields that each decides |
    | notices | `(recipe, will)` -> what its user should know before anything runs; may raise ConfigError |
    | checks | each `(recipe, inputs that are there)` raises the LlmillError that it would end with, at small cost |
    | data, reads_sources | parts that MLflow shows as data sets; whether what it observes outside are sources of data |
    | compared | its config -> the settings that people compare runs by |
    | figures | numbers of its summary that tell how good a result is, by which a search can go |
    | telling | numbers of its summary that the line at its end begins with: what became better |
    | headline | names of figures of the whole run -> names in its summary |
    | report | `(run, stage)` -> its section of the report |
    | at_end | `(artifact, summary)` -> names and texts of lines at the end of a run |
    | explain | `(run, stage, document)` -> its step in the way of a document, or None |
    | explain_pair | the same of a row of supervised data (storage/documents.py), whose `part` stands with it |
    | explain_lost | `(run, stage, wanted, whole)` -> its steps for what is called so and never became a document |
    | words | a step -> its lines, of which the first is beside the verdict |
    """

    title: str = ""
    work: Work | None = field(default_factory=documents_read)
    seconds: Callable[[Upcoming, Mapping[str, str]], float | None] = nothing_measured
    same_kinds: tuple[str, ...] = ()
    expensive: bool = False
    follows: Callable[[Figures, Summaries], dict[str, Any]] = nothing_follows
    dial: str = ""
    presets: Mapping[str, Figures] = field(default_factory=dict)
    notices: Callable[[Any, str], list[str]] = no_notices
    checks: tuple[Callable[[Any, Mapping[str, Artifact]], None], ...] = ()
    data: tuple[str, ...] = ()
    reads_sources: bool = False
    compared: Callable[[Any], dict[str, Any]] = nothing_compared
    figures: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()
    headline: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[MadeRun, str], Section] = what_it_dropped
    at_end: Callable[[Artifact, Figures], list[tuple[str, str]]] = no_lines
    explain: Callable[[MadeRun, str, Mapping[str, Any]], Step | None] = kept_or_dropped
    explain_pair: Callable[[MadeRun, str, Mapping[str, Any]], Step | None] = not_about_pairs
    explain_lost: Callable[[MadeRun, str, str, bool], list[Step]] = knows_no_lost
    words: Callable[[Step], list[str]] = figures_of_step


def settings(*names: str) -> Callable[[Any], dict[str, Any]]:
    """For `compared`: fields of the config."""
    return lambda config: {name: getattr(config, name) for name in names}


def not_about_documents(run: MadeRun, stage: str, document: Mapping[str, Any]) -> Step | None:
    """Of a stage that treats no single document."""
    return None
