"""`llmill explain`: what every stage of a run has done with one document, and why.

Each stage says itself what it did (`About.explain`), read from what it has left: documents, ledgers, signals, token
shards, items. Shards are streamed.
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import dropwhile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.build import BUILD
from flows.inspect.explain_lost import led_to, lost_steps, nothing_known
from flows.inspect.explain_pair import find_pair
from flows.inspect.references import build_of, stage_row, transfer_line
from storage.canonical import canonical_json
from storage.documents import label
from storage.errors import DataError
from storage.lookup import document_at, place_of, tables_of
from storage.runs import find_run
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store
from tasks.engine.about import DOCUMENTS, Step
from tasks.wording import clipped

_NAMES = ["id", "title", "url", "metadata"]


class _Run:
    """The intact artifacts and build records of one run, by stage: a `MadeRun` for the stages."""

    def __init__(self, store: Store, run: Mapping[str, Any], until: str | None) -> None:
        self.name = run["run"]
        self.artifacts: dict[str, Artifact] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.gone: list[str] = []
        for row in run["stages"]:
            artifact = store.artifact(row["artifact"]["digest"]) if "artifact" in row else None
            if artifact is not None and not store.artifact_damage(artifact):
                store.fetch(artifact, transfer_line)
                self.artifacts[row["stage"]] = artifact
                self.records[row["stage"]] = build_of(store, row) or {}
            elif "artifact" in row:
                self.gone.append(row["stage"])
            if row["stage"] == until:
                break

    def part(self, stage: str, name: str) -> Part | None:
        artifact = self.artifacts.get(stage)
        return artifact.parts.get(name) if artifact is not None else None

    def read(self, stage: str, name: str) -> Part | None:
        digests = self.records.get(stage, {}).get("identity", {}).get("inputs", {}).values()
        parts = (artifact.parts.get(name) for artifact in self.artifacts.values())
        return next((part for part in parts if part is not None and part.digest in digests), None)

    def config(self, stage: str) -> dict[str, Any]:
        return self.records.get(stage, {}).get("identity", {}).get("config", {})

    def summary(self, stage: str) -> dict[str, Any]:
        return self.records.get(stage, {}).get("summary", {})


def explain(store: Store, reference: str, document: str) -> dict[str, Any]:
    """The `--json` object: the document (or `pair`), a step a stage, and how it ended.

    Raises DataError where the run's documents are gone, or DOC means nothing of the run or several.
    """
    name, _, stage = reference.partition("/")
    first, *later = dropwhile(lambda one: DOCUMENTS not in one.parts, BUILD.stages)
    store.sync_runs()
    run_file = find_run(store.home, name, stage or first.name)
    if stage:
        stage_row(run_file, stage)
    run = _Run(store, run_file, stage or None)
    collected = run.part(first.name, DOCUMENTS)
    if collected is None:
        raise DataError(f"{reference}: the documents of this run are gone; run its recipe again")
    found, before = _find(collected, document, _EXACT), []
    if found is None and (before := lost_steps(run, document, whole=True)):
        found = _find(collected, led_to(before), _EXACT)
        if found is None:
            return _lost_s_way(run, document, before)
        before = [step for step in before if step.get("final")]
    if found is None:
        found = _find(collected, document, _PIECES) or _in_file(collected, document)
    if found is None:
        pair = find_pair(lambda part: run.part(first.name, part), document)
        return _pair_s_way(run, pair) if pair else _lost_s_way(run, document, lost_steps(run, document, whole=False))
    place = place_of(collected, found)
    assert place is not None
    row = document_at(collected, place, found)
    about = {name: row[name] for name in ("id", "title", "url", "source", "group", "split", "license", "lang")}
    about |= {"bytes": len(row["text"].encode()), "metadata": json.loads(row["metadata"])}
    steps: list[dict[str, Any]] = [*before]
    for one in (first, *later):
        step = one.about.explain(run, one.name, about)
        if step is not None:
            steps.append({"stage": one.name, **step})
            if step["verdict"] == "dropped":
                break
    return {"run": run.name, "document": about, "steps": steps, "gone": run.gone}


def _pair_s_way(run: _Run, pair: dict[str, Any]) -> dict[str, Any]:
    steps = [(stage.name, stage.about.explain_pair(run, stage.name, pair)) for stage in BUILD.stages]
    made = [{"stage": name, **step} for name, step in steps if step is not None]
    return {"run": run.name, "pair": pair, "steps": made, "gone": run.gone}


def _lost_s_way(run: _Run, wanted: str, steps: list[Step]) -> dict[str, Any]:
    """The way of records that never became a document."""
    if not steps or not wanted:
        raise nothing_known(run, run.name, wanted)
    return {"run": run.name, "document": {"title": wanted, "records": len(steps)}, "steps": steps, "gone": run.gone}


# Finding it -----------------------------------------------------------------------------------------------------


Way = Callable[[pa.Table, str], Any]


def _own_id(wanted: str) -> str:
    """The id of a record as its metadata have it: in canonical JSON, where a quote in a text is escaped."""
    return f'"id":{canonical_json(wanted).decode()}'


_EXACT: tuple[Way, ...] = (
    lambda table, wanted: pc.or_(pc.equal(table["id"], wanted), pc.match_substring(table["metadata"], _own_id(wanted))),
    lambda table, wanted: pc.starts_with(table["id"], wanted),
    lambda table, wanted: pc.or_(pc.equal(table["title"], wanted), pc.equal(table["url"], wanted)),
)
_PIECES: tuple[Way, ...] = (
    lambda table, wanted: pc.or_(
        pc.match_substring(table["title"], wanted, ignore_case=True),
        pc.match_substring(table["url"], wanted, ignore_case=True),
    ),
)


def _find(documents: Part, wanted: str, ways: tuple[Way, ...]) -> str | None:
    """The id of the one document meant: by its id or the one that its record has, by the start of the former, by its
    whole title or URL, or by a piece of these; the first of the ways that finds any decides.
    """
    for matches in ways if wanted else ():
        found: dict[str, str] = {}
        for table in tables_of(documents, _NAMES):
            found |= {row["id"]: label(row) for row in table.filter(matches(table, wanted)).to_pylist()}
        if len(found) == 1:
            return next(iter(found))
        if found:
            shown = "; ".join(f"{identity[:12]} {clipped(name, 40)}" for identity, name in found.items())
            raise DataError(f"{wanted!r} means {len(found)} documents. Give an id: {clipped(shown, 400)}")
    return None


def _in_file(documents: Part, wanted: str) -> str | None:
    """The id of the one document that a file holds."""
    in_file = rf'"file":"([^"]*/)?{re.escape(canonical_json(wanted).decode()[1:])}'
    whole = [
        identity
        for table in tables_of(documents, ["id", "metadata"])
        for identity in table.filter(pc.match_substring_regex(table["metadata"], in_file))["id"].to_pylist()
    ]
    return whole[0] if len(whole) == 1 else None
