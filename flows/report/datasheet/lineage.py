"""Which stages of a run have made its corpus, and what is missing of it."""

from collections.abc import Iterator

from flows.build import BUILD
from flows.report.datasheet.facts import Missing
from flows.report.run_data import RunData
from storage.errors import DataError
from tasks.engine.about import DOCUMENTS

GONE = "its data are gone or damaged"
_OUTCOMES = {"failed": "it failed", "skipped": "it was skipped, since another failed"}


def corpus_stage(data: RunData) -> str:
    """The stage that made the last documents of a run; raises DataError where none did."""
    stage = data.last_with(DOCUMENTS)
    if stage:
        return stage
    outcomes = [f"{name}: {row['outcome']}" for name, row in data.rows.items() if name in _treating()]
    made = [name for name, row in data.rows.items() if name in _treating() and "artifact" in row]
    run = data.run["run"]
    if made:
        raise DataError(f"run {run}: the documents of {', '.join(made)} are gone; run its recipe again")
    said = f" ({', '.join(outcomes)})" if outcomes else ""
    raise DataError(f"run {run}: no stage of it has made documents{said}, so there is no corpus to describe")


def stages_behind(data: RunData, corpus: str) -> list[str]:
    """The stages that a corpus was made by, itself the last, in the order of the run."""
    made_by: dict[str, list[str]] = {}
    for stage, artifact in data.artifacts.items():
        for part in artifact.parts.values():
            made_by.setdefault(part.digest, []).append(stage)
    order = list(data.artifacts)
    found, waiting = {corpus}, [corpus]
    while waiting:
        stage = waiting.pop()
        read = {one for digest in data.read_digests(stage) for one in made_by.get(digest, ())}
        before = {one for one in read if order.index(one) < order.index(stage)} - found
        found |= before
        waiting += before
    # A record that is gone says nothing of what was read.
    found |= {one for one in order[: order.index(corpus)] if DOCUMENTS in data.artifacts[one].parts}
    return [stage for stage in order if stage in found]


def missing_stages(data: RunData, stages: list[str]) -> Iterator[Missing]:
    """What did not come to its end, and what is no longer there whole."""
    planned = [row["stage"] for row in data.run.get("plan", [])]
    for stage in dict.fromkeys((*planned, *data.rows)):
        row = data.rows.get(stage, {})
        if stage in _treating() and stage not in data.artifacts:
            outcome = _OUTCOMES.get(row.get("outcome", ""), "the run did not come to it")
            yield Missing(stage=stage, why=GONE if "artifact" in row else outcome)
    for stage in stages:
        parts = [name for name in data.artifacts[stage].parts if data.part(stage, name) is None]
        if parts:
            yield Missing(stage=stage, why=f"{GONE}: {', '.join(parts)}")


def not_in_run(data: RunData) -> list[str]:
    """The titles of stages that treat documents and that neither ran nor were to run."""
    known = {*data.rows, *(row["stage"] for row in data.run.get("plan", []))}
    return [data.about(stage).title or stage for stage in _treating() if stage not in known]


def _treating() -> tuple[str, ...]:
    """The stages of a build that write documents."""
    return tuple(stage.name for stage in BUILD.stages if DOCUMENTS in stage.parts)
