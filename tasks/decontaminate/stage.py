"""The stage decontam: what a model is asked in evaluation is taken out of what it learns from.

In: what filter leaves, or moderate, and the items of the stage benchmarks. Out: the same parts without what holds an
item; `ledger` (a row for each text and item: id, part, benchmark, item, the share of the item's words, what was done),
`found` (a row for each item: how many texts hold it), `dirty` (the items that were found, for evaluation).

1. The items: their runs of 13 words, as an index (index.py, cached).
2. Each shard by itself (cached): which of its runs are in the index (find.py).
3. All shards: runs in more than 10 texts are phrases and do not count. A text holds an item where the other runs that
   both have cover half of the item's words. Only what was found is in memory.
4. Each shard that loses something (cached by what it loses): its documents without that (cut.py). Pairs, preferences
   and labelled texts go whole. All other shards are not copied but linked.

Cost: 30 to 50 ms a megabyte of English, 40 to 200 of other scripts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import SUPERVISED, write_rows
from storage.store.artifacts import Artifact, StoredFile
from tasks.decontaminate.config import DecontaminateConfig
from tasks.decontaminate.cut import KEPT, cut_shard, drop_pairs
from tasks.decontaminate.find import INDEX, MATCHES, Held, Judge, find_matches
from tasks.decontaminate.index import Index, build_index, read_index, read_names
from tasks.decontaminate.runs import Flags, Numbers
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.notices import NOTICES, Tally, check_nothing_lost, loss_notices

DOCUMENTS, LEDGER, FOUND, DIRTY = "documents", "ledger", "found", "dirty"
SEARCHED = (DOCUMENTS, *SUPERVISED)
CUT, DROPPED, REPORTED = "cut", "dropped", "reported"
CLEAN, SHORT, COMMON = "clean", "short", "common"
FIELD = "decontaminate.min_overlap"

_TEXTS = ("id", "part", "source", "benchmark", "item", "action")
LEDGER_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXTS),
        pa.field("share", pa.float64(), nullable=False),  # of the item's words
        pa.field("characters", pa.int64(), nullable=False),  # that a cut document has lost, for all its items
        pa.field("shard", pa.int32(), nullable=False),
    ]
)
FOUND_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("benchmark", "item", "state")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("words", "texts")),
        pa.field("share", pa.float64(), nullable=False),  # the highest of a text that holds it
    ]
)
DIRTY_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("benchmark", "item")])


@dataclass(frozen=True, slots=True)
class _Searched:
    """A shard: its part, its number there, its file, and the job that has searched it."""

    part: str
    number: int
    file: StoredFile
    result: JobResult

    @property
    def name(self) -> str:
        return f"{self.part}/{self.file.name}"

    def matches(self) -> Numbers:
        return np.load(self.result.files[MATCHES].path, allow_pickle=False)


@stage(
    "decontam",
    parts=(DOCUMENTS, LEDGER, FOUND, DIRTY, "signals", *SUPERVISED),
    reads={"clean": (DOCUMENTS, "signals", *SUPERVISED), "asked": ("items",)},
    libraries=("numpy", "pyarrow", UNICODE),
    about="tasks.decontaminate.about.DECONTAM",
)
def decontaminate(config: DecontaminateConfig, clean: Artifact, asked: Artifact, *, context: Context) -> Summary:
    """Take what benchmarks ask out of documents, pairs, preferences and labels. Summary: counts, also of items."""
    settings = {"run_words": config.run_words, "least_words": config.least_words}
    items = {file.name: file for file in asked["items"].files}
    built = context.map(build_index, [Job("items", settings, items)], "items")[0]
    paths = {name: file.path for name, file in built.files.items()}
    index, names = read_index(paths), read_names(paths)
    shards = _search(settings, clean, built, context)
    counts, common = _that_count(config, index, shards)
    judge = Judge(index, counts, config.min_overlap)
    found = {shard.name: list(judge.held(shard.matches())) for shard in shards}
    done = _removed(config, shards, found, context)
    ledger = [row for shard in shards for row in _ledger(shard, found[shard.name], names, done.get(shard.name))]
    write_rows(context.part(LEDGER) / "ledger.parquet", ledger, LEDGER_SCHEMA)
    states = _write_items(index, judge, names, found, context)
    context.part("signals")
    for file in clean["signals"].files:
        context.link("signals", file.name, file)
    return _summary(config, shards, ledger, states, common)


def _search(settings: Mapping[str, Any], clean: Artifact, built: JobResult, context: Context) -> list[_Searched]:
    index = {INDEX + name: file for name, file in built.files.items()}
    named = [(part, number, file) for part in SEARCHED for number, file in enumerate(clean[part].files)]
    jobs = [Job(f"{part}/{file.name}", {**settings, "part": part}, {"rows": file, **index}) for part, _, file in named]
    results = context.map(find_matches, jobs)
    return [_Searched(*one, result) for one, result in zip(named, results, strict=True)]


def _that_count(config: DecontaminateConfig, index: Index, shards: Sequence[_Searched]) -> tuple[Flags, int]:
    """Whether each run of the index counts, and how many do not since they are in too many texts."""
    texts = np.zeros(len(index.hashes), np.int64)
    for shard in shards:
        pairs = np.unique(shard.matches()[:, [0, 3]], axis=0)
        texts += np.bincount(pairs[:, 1], minlength=len(texts))
    counts = np.ones(len(texts), bool) if config.most_texts is None else texts <= config.most_texts
    return counts, int(len(counts) - counts.sum())


def _removed(
    config: DecontaminateConfig,
    shards: Sequence[_Searched],
    found: Mapping[str, Sequence[Held]],
    context: Context,
) -> dict[str, dict[int, int]]:
    """Write the parts that are searched. Returns, for each shard that loses something, the rows that do: how many
    characters are cut out of it, 0 where it goes whole."""
    for part in SEARCHED:
        context.part(part)
    losing = [shard for shard in shards if found[shard.name]] if config.mode == "remove" else []
    of_documents = [shard for shard in losing if shard.part == DOCUMENTS]
    cutting = config.model_dump(mode="json", include={"margin_characters", "min_piece_characters", "most_cuts"})
    jobs = [Job(one.name, {**cutting, "spans": _spans(found[one.name])}, {"rows": one.file}) for one in of_documents]
    written = {result.name: result for result in (context.map(cut_shard, jobs) if jobs else [])}
    done = {name: dict.fromkeys(one.summary["dropped"], 0) | dict(one.summary["lost"]) for name, one in written.items()}
    others = [(one, sorted({held.row for held in found[one.name]})) for one in losing if one.part != DOCUMENTS]
    jobs = [Job(one.name, {"dropped": rows}, {"rows": one.file}) for one, rows in others]
    written |= {result.name: result for result in (context.map(drop_pairs, jobs) if jobs else [])}
    for shard in shards:
        result = written.get(shard.name)
        context.link(shard.part, shard.file.name, result.files[KEPT] if result else shard.file)
    return done | {one.name: dict.fromkeys(rows, 0) for one, rows in others}


def _spans(found: Sequence[Held]) -> list[Any]:
    """The spans of words that each row loses, ascending."""
    rows: dict[int, set[tuple[int, int]]] = {}
    for held in found:
        rows.setdefault(held.row, set()).update(held.spans)
    return [[row, sorted(spans)] for row, spans in rows.items()]


def _ledger(
    shard: _Searched, found: Sequence[Held], names: Sequence[tuple[str, str]], done: Mapping[int, int] | None
) -> Iterator[dict[str, Any]]:
    if not found:
        return
    rows = pq.read_table(shard.file.path, columns=["id", "source"]).take(pa.array([held.row for held in found]))
    for held, row in zip(found, rows.to_pylist(), strict=True):
        benchmark, item = names[held.item]
        lost = (done or {}).get(held.row, 0)
        yield {
            **row,
            "part": shard.part,
            "benchmark": benchmark,
            "item": item,
            "action": REPORTED if done is None else CUT if lost else DROPPED,
            "share": round(held.share, 6),
            "characters": lost,
            "shard": shard.number,
        }


def _write_items(
    index: Index,
    judge: Judge,
    names: Sequence[tuple[str, str]],
    found: Mapping[str, Sequence[Held]],
    context: Context,
) -> Counter[str]:
    """Write what was found of each item; returns how many items there are of each state."""
    texts, shares = Counter[int](), dict[int, float]()
    for held in (one for some in found.values() for one in some):
        texts[held.item] += 1
        shares[held.item] = max(shares.get(held.item, 0.0), held.share)
    runs, words = np.diff(index.firsts).tolist(), judge.words.tolist()

    def state(number: int) -> str:
        if texts[number]:
            return DIRTY
        return SHORT if not runs[number] else CLEAN if words[number] else COMMON

    states = [state(number) for number in range(len(names))]
    rows = (
        {
            "benchmark": benchmark,
            "item": item,
            "state": states[number],
            "words": words[number],
            "texts": texts[number],
            "share": round(shares.get(number, 0.0), 6),
        }
        for number, (benchmark, item) in enumerate(names)
    )
    write_rows(context.part(FOUND) / "found.parquet", rows, FOUND_SCHEMA)
    dirty = sorted({names[number] for number in texts})
    write_rows(
        context.part(DIRTY) / "dirty.parquet", ({"benchmark": one, "item": item} for one, item in dirty), DIRTY_SCHEMA
    )
    return Counter(states)


def _summary(
    config: DecontaminateConfig,
    shards: Sequence[_Searched],
    ledger: Sequence[Mapping[str, Any]],
    states: Counter[str],
    common: int,
) -> Summary:
    lost = {
        action: {(row["part"], row["id"]) for row in ledger if row["action"] == action} for action in (CUT, DROPPED)
    }
    tallies = _tallies(shards, ledger)
    fields = {row["benchmark"]: FIELD for row in ledger}
    check_nothing_lost("decontam", tallies, fields)
    read = sum(tally.read for tally in tallies.values())
    dropped = sum(tally.lost for tally in tallies.values())
    return {
        "read": read,
        "kept": read - dropped,
        "dropped": dropped,
        "quarantined": 0,
        "cut": len(lost[CUT]),
        "documents_with_items": len({row["id"] for row in ledger if row["part"] == DOCUMENTS}),
        "items": states.total(),
        **{f"items_{state}": states[state] for state in (DIRTY, CLEAN, SHORT, COMMON)},
        "common_runs": common,
        **{f"{part}_dropped": count for part in SUPERVISED if (count := sum(one == part for one, _ in lost[DROPPED]))},
        NOTICES: [*loss_notices("decontam", {"source": tallies}, fields), *_common_notice(config, states[COMMON])],
    }


def _common_notice(config: DecontaminateConfig, count: int) -> Iterator[str]:
    if count:
        yield (
            f"decontam: {count:,} items are in more than {config.most_texts} texts word for word and were taken for "
            "phrases (decontaminate.most_texts; null: none is)"
        )


def _tallies(shards: Sequence[_Searched], ledger: Sequence[Mapping[str, Any]]) -> dict[str, Tally]:
    """Documents read, and dropped by the first benchmark found in each, of each source."""
    read: Counter[str] = Counter()
    for shard in shards:
        if shard.part == DOCUMENTS:
            read.update(pq.read_table(shard.file.path, columns=["source"])["source"].to_pylist())
    reasons: dict[str, tuple[str, str]] = {}
    for row in ledger:
        if row["part"] == DOCUMENTS and row["action"] == DROPPED:
            reasons.setdefault(row["id"], (row["source"], row["benchmark"]))
    dropped: dict[str, Counter[str]] = {source: Counter() for source in read}
    for source, benchmark in reasons.values():
        dropped[source][benchmark] += 1
    return {
        source: Tally(read[source], read[source] - dropped[source].total(), dropped[source]) for source in sorted(read)
    }


def dirty_items(path: Path) -> frozenset[str]:
    """The digests of the items that the part `dirty` names."""
    return frozenset(pq.read_table(path / "dirty.parquet", columns=["item"])["item"].to_pylist())
