"""`llmill explain`: what every stage of a run has done with one document, and why.

Read from what the stages have left: documents, ledgers, signals, token shards, items. Shards are streamed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.inspect.references import build_of, stage_row, transfer_line
from flows.wording import clipped
from storage.canonical import canonical_json
from storage.errors import DataError
from storage.runs import find_run
from storage.store.artifacts import Artifact, Part
from storage.store.local import Store

SHOWN = 5
_NAMES = ["id", "title", "url", "metadata"]

Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a document lies in a document set: file number, row, and its number among those of its split."""

    shard: int
    row: int
    number: int


class _Run:
    """The intact artifacts and build records of one run, by stage."""

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
        return self.artifacts[stage][name] if stage in self.artifacts else None

    def config(self, stage: str) -> dict[str, Any]:
        return self.records.get(stage, {}).get("identity", {}).get("config", {})

    def summary(self, stage: str) -> dict[str, Any]:
        return self.records.get(stage, {}).get("summary", {})


def explain(store: Store, reference: str, document: str) -> dict[str, Any]:
    """The `--json` object: the document, a step a stage, and how it ended.

    Raises DataError where the run's documents are gone, or DOC means no document of the run or several.
    """
    name, _, stage = reference.partition("/")
    store.sync_runs()
    run_file = find_run(store.home, name, stage or "collect")
    if stage:
        stage_row(run_file, stage)
    run = _Run(store, run_file, stage or None)
    collected = run.part("collect", "documents")
    if collected is None:
        raise DataError(f"{reference}: the documents of this run are gone; run its recipe again")
    found = _find(collected, document)
    if found is None:
        return _quarantined(run, document)
    row, place = _read(collected, found)
    about = {name: row[name] for name in ("id", "title", "url", "source", "group", "split", "license", "lang")}
    about |= {"bytes": len(row["text"].encode()), "metadata": json.loads(row["metadata"])}
    first: Step = {"stage": "collect", "verdict": "collected", "shard": place.shard, "row": place.row}
    journey = {"run": run.name, "document": about, "steps": [first], "gone": run.gone}
    for explain_stage in (_deduplicated, _filtered, _learned, _tokenized, _trained, _tuned, _evaluated):
        step = explain_stage(run, about)
        if step is not None:
            journey["steps"].append(step)
            if step["verdict"] == "dropped":
                break
    return journey


# Finding it -----------------------------------------------------------------------------------------------------


def _find(documents: Part, wanted: str) -> str | None:
    """The id of the one document meant: by its id or the one that its record has, by the start of the former, by its
    whole title or URL, or by a piece of these; the first of these ways that finds any decides."""
    own = (
        f'"id":{canonical_json(wanted).decode()}'  # as it stands in canonical JSON, where a quote in a text is escaped
    )
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
        for table in _tables(documents, _NAMES):
            found |= {row["id"]: label(row) for row in table.filter(matches(table)).to_pylist()}
        if len(found) == 1:
            return next(iter(found))
        if found:
            shown = "; ".join(f"{identity[:12]} {clipped(name, 40)}" for identity, name in found.items())
            raise DataError(f"{wanted!r} means {len(found)} documents. Give an id: {clipped(shown, 400)}")
    return None


def label(row: Mapping[str, Any]) -> str:
    """What people know a document by: title, URL, the id of its record, or its place in a file."""
    metadata = row["metadata"]
    known = json.loads(metadata) if isinstance(metadata, str) else metadata
    place = f"{known['file']}, line {known['line']}" if "line" in known else known.get("file", "")
    return row["title"] or row["url"] or known.get("id", "") or place


def _quarantined(run: _Run, wanted: str) -> dict[str, Any]:
    """A record that never became a document, named by its file."""
    rows: list[dict[str, Any]] = []
    part = run.part("collect", "quarantine")
    for table in _tables(part, None) if part else ():
        rows += table.filter(pc.match_substring(table["file"], wanted)).to_pylist() if wanted else []
    if not rows:
        raise DataError(f"no document of run {run.name} has the id, title or URL {wanted!r}, nor was one set aside")
    steps = [{"stage": "collect", "verdict": "quarantined", **row} for row in rows[:SHOWN]]
    return {"run": run.name, "document": {"title": wanted, "records": len(rows)}, "steps": steps, "gone": run.gone}


def _read(documents: Part, identity: str) -> tuple[dict[str, Any], _Place]:
    """The whole row of a document, and where it lies."""
    place = _place(documents, identity)
    assert place is not None
    table = pq.read_table(documents.files[place.shard].path, filters=pc.field("id") == identity, use_threads=False)
    return table.slice(0, 1).to_pylist()[0], place


def _place(documents: Part, identity: str) -> _Place | None:
    for shard, table in enumerate(_tables(documents, ["id", "split"])):
        row = pc.index(table["id"], identity).as_py()
        if row >= 0:
            splits = table["split"].slice(0, row).to_pylist()
            return _Place(shard, row, splits.count(table["split"][row].as_py()))
    return None


def _tables(part: Part, columns: list[str] | None) -> Iterator[pa.Table]:
    for file in part.files:
        yield pq.read_table(file.path, columns=columns, use_threads=False)


def _rows(part: Part, column: str, value: str) -> list[dict[str, Any]]:
    """The rows of a part in which a column has a value."""
    return [
        row for file in part.files for row in pq.read_table(file.path, filters=pc.field(column) == value).to_pylist()
    ]


# A step a stage -------------------------------------------------------------------------------------------------


def _deduplicated(run: _Run, about: Mapping[str, Any]) -> Step | None:
    documents, ledger = run.part("deduplicate", "documents"), run.part("deduplicate", "ledger")
    if documents is None or ledger is None:
        return None
    if _place(documents, about["id"]) is None:
        row = _rows(ledger, "id", about["id"])[0]
        collected = run.part("collect", "documents")
        twin = _read(collected, row["twin"])[0] if collected else {}
        step: Step = {"stage": "deduplicate", "verdict": "dropped", "reason": row["reason"], "twin": row["twin"]}
        step |= {f"twin_{name}": twin.get(name, "") for name in ("title", "url", "split")}
        step["twin_label"] = label(twin) if twin else ""
        return step | {name: row[name] for name in ("jaccard", "estimated_jaccard")}
    twins = _rows(ledger, "twin", about["id"])
    names = ("id", "reason", "jaccard", "estimated_jaccard")
    return {
        "stage": "deduplicate",
        "verdict": "kept",
        "kept_instead_of": [{name: row[name] for name in names} for row in twins],
    }


def _filtered(run: _Run, about: Mapping[str, Any]) -> Step | None:
    """Every rule that is in force with the document's value, in the order in which they judge."""
    from tasks.filter.rules import RULES, threshold
    from tasks.filter.signals import EDITS

    documents, signals = run.part("filter", "documents"), run.part("filter", "signals")
    ledger = run.part("filter", "ledger")
    if documents is None or signals is None or ledger is None:
        return None
    measured = _rows(signals, "id", about["id"])[0]
    config = run.config("filter")
    rules = []
    for rule in RULES:
        side, _, signal = rule.partition("_")
        value = measured[signal]
        if config.get(rule) is None or value is None:  # null: the rule does not judge this document
            continue
        limit = threshold(rule, config[rule], measured["language"])
        passed = value >= limit if side == "min" else value <= limit
        rules.append({"rule": rule, "value": value, "threshold": limit, "passed": passed})
    step: Step = {"stage": "filter", "verdict": "kept", "rules": rules}
    step["edits"] = {name: measured[name] for name in EDITS if measured[name]}
    step["language"] = measured["language"]
    dropped = _rows(ledger, "id", about["id"])
    if dropped:
        step |= {"verdict": "dropped", "reason": dropped[0]["rule"]}
        step |= {name: dropped[0][name] for name in ("value", "threshold")}
    return step


def _learned(run: _Run, about: Mapping[str, Any]) -> Step | None:
    if "tokenizer" not in run.artifacts:
        return None
    if about["split"] != "train":
        verdict = "not read"
    else:
        verdict = "learned from" if run.config("tokenizer").get("training_bytes") is None else "may be in the sample"
    return {"stage": "tokenizer", "verdict": verdict}


def _tokenized(run: _Run, about: Mapping[str, Any]) -> Step | None:
    from storage.tokens import TokenSet

    tokens, documents = run.part("tokenize", "tokens"), run.part("filter", "documents")
    place = _place(documents, about["id"]) if documents else None
    if tokens is None or place is None:
        return None
    split = about["split"]
    file = f"{split}-{place.shard:05d}.tokens.npy"
    step: Step = {"stage": "tokenize", "verdict": "tokenized", "file": file, "document": place.number}
    names = sorted(name.name for name in tokens.files if name.name.startswith(f"{split}-") and ".tokens." in name.name)
    shard = TokenSet(tokens.path, split).shards[names.index(file)]
    start = int(shard.documents[place.number - 1, 0]) if place.number else 0
    end = int(shard.documents[place.number, 0])
    return step | {"start": start, "end": end, "tokens": end - start}


def _trained(run: _Run, about: Mapping[str, Any]) -> Step | None:
    if "pretrain" not in run.artifacts:
        return None
    if about["split"] != "train":
        return {"stage": "pretrain", "verdict": "held out"}
    seen, there = run.summary("pretrain").get("tokens", 0), run.summary("tokenize").get("train_tokens", 0)
    passes = round(seen / there, 2) if there else None
    return {"stage": "pretrain", "verdict": "trained on", "passes": passes}


def _tuned(run: _Run, about: Mapping[str, Any]) -> Step | None:
    """How many pairs of the document's group there are: pairs are split as their group is."""
    pairs = run.part("collect", "pairs")
    if "finetune" not in run.artifacts or pairs is None:
        return None
    count = sum(
        len(pq.read_table(file.path, columns=["id"], filters=pc.field("group") == about["group"]))
        for file in pairs.files
    )
    verdict = "trained on" if about["split"] == "train" else "held out"
    return {"stage": "finetune", "verdict": verdict if count else "no pairs", "pairs_of_its_group": count}


def _evaluated(run: _Run, about: Mapping[str, Any]) -> Step | None:
    items = run.part("evaluate", "items")
    if items is None:
        return None
    rows = _rows(items, "document", about["id"])
    names = ("name", "metric", "model", "prompt", "target")
    found = [
        {name: row[name] for name in names} | {"value": row["amount"] / row["weight"] if row["weight"] else None}
        for row in rows
        if row["model"] in ("base", "tuned")
    ]
    return {"stage": "evaluate", "verdict": "measured" if found else "not measured", "items": found}
