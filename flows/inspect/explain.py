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
from flows.inspect.explain_pair import find_pair
from flows.inspect.references import build_of, stage_row, transfer_line
from storage.canonical import canonical_json
from storage.documents import label
from storage.errors import DataError
from storage.lookup import document_at, place_of, tables_of
from storage.runs import find_run
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store
from tasks.engine.about import DOCUMENTS
from tasks.wording import clipped

SHOWN = 5  # records that never became documents
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
    found = _find(collected, document)
    if found is None:
        pair = find_pair(lambda part: run.part(first.name, part), document)
        return _pair_s_way(run, pair) if pair else _set_aside(run, first.name, document)
    place = place_of(collected, found)
    assert place is not None
    row = document_at(collected, place, found)
    about = {name: row[name] for name in ("id", "title", "url", "source", "group", "split", "license", "lang")}
    about |= {"bytes": len(row["text"].encode()), "metadata": json.loads(row["metadata"])}
    steps: list[dict[str, Any]] = []
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


# Finding it -----------------------------------------------------------------------------------------------------


def _find(documents: Part, wanted: str) -> str | None:
    """The id of the one document meant: by its id or the one that its record has, by the start of the former, by its
    whole title or URL, or by a piece of these; the first of these ways that finds any decides. A file that holds one
    document means it, too.
    """
    quoted = canonical_json(wanted).decode()  # as it stands in canonical JSON, where a quote in a text is escaped
    own = f'"id":{quoted}'
    ways: list[Callable[[pa.Table], Any]] = [
        lambda table: pc.or_(pc.equal(table["title"], wanted), pc.equal(table["url"], wanted)),
        lambda table: pc.or_(
            pc.match_substring(table["title"], wanted, ignore_case=True),
            pc.match_substring(table["url"], wanted, ignore_case=True),
        ),
    ]
    if wanted:
        ways[:0] = [
            lambda table: pc.or_(pc.equal(table["id"], wanted), pc.match_substring(table["metadata"], own)),
            lambda table: pc.starts_with(table["id"], wanted),
        ]
    for matches in ways:
        found: dict[str, str] = {}
        for table in tables_of(documents, _NAMES):
            found |= {row["id"]: label(row) for row in table.filter(matches(table)).to_pylist()}
        if len(found) == 1:
            return next(iter(found))
        if found:
            shown = "; ".join(f"{identity[:12]} {clipped(name, 40)}" for identity, name in found.items())
            raise DataError(f"{wanted!r} means {len(found)} documents. Give an id: {clipped(shown, 400)}")
    in_file = rf'"file":"([^"]*/)?{re.escape(quoted[1:])}'
    whole = [
        identity
        for table in tables_of(documents, ["id", "metadata"])
        for identity in table.filter(pc.match_substring_regex(table["metadata"], in_file))["id"].to_pylist()
    ]
    return whole[0] if len(whole) == 1 else None


def _set_aside(run: _Run, stage: str, wanted: str) -> dict[str, Any]:
    """A record that never became a document, named by its file."""
    rows: list[dict[str, Any]] = []
    part = run.part(stage, "quarantine")
    for table in tables_of(part, None) if part else ():
        rows += table.filter(pc.match_substring(table["file"], wanted)).to_pylist() if wanted else []
    if not rows:
        raise DataError(
            f"no document of run {run.name} has the id, title or URL {wanted!r}, nor was one set aside, "
            "and no pair has these words in a question"
        )
    steps = [{"stage": stage, "verdict": "quarantined", **row} for row in rows[:SHOWN]]
    return {"run": run.name, "document": {"title": wanted, "records": len(rows)}, "steps": steps, "gone": run.gone}
