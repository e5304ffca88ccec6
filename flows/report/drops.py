"""What each data stage dropped and why, with real examples from the ledgers. Streams; memory holds the examples."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.report.run_data import Fact, RunData
from storage.documents import read_rows
from storage.store.artifacts import Part, StoredFile
from tasks.engine.about import DOCUMENTS
from tasks.filter import FilterConfig
from tasks.filter.edit import LINE_RULES

EXAMPLES = 2  # of each reason
EXAMPLE_CHARACTERS = 320
MOST_REASONS = 200  # counted one by one; a reader may word its reasons freely
EXAMPLE_COLUMNS = ["id", "text", "source", "title"]


class Example(Fact):
    """A document that was dropped, shortened; `twin` is the text that was kept in its place."""

    title: str
    source: str
    text: str
    note: str
    twin: str = ""


class Reason(Fact):
    """Why documents were dropped: `name` as in the recipe or ledger, `what` for people."""

    name: str
    what: str
    count: int
    examples: tuple[Example, ...] = ()


class StageDrops(Fact):
    """A data stage: read = kept + dropped + quarantined."""

    stage: str
    read: int
    kept: int
    dropped: int
    quarantined: int
    reasons: tuple[Reason, ...]


class Drops(Fact):
    """All data stages that the run came to, in order."""

    stages: tuple[StageDrops, ...]


def document_flow(data: RunData) -> Drops:
    """Counts and reasons of the data stages, from their summaries and ledgers."""
    reached = {stage: data.summary(stage) for stage in data.rows if _is_data_stage(data, stage)}
    parts = [data.artifacts[stage].digest for stage in reached if stage in data.artifacts]
    key = {"artifacts": parts, "summaries": {stage: dict(summary) for stage, summary in reached.items()}}

    def make() -> Drops:
        makers: dict[str, Callable[[RunData], Iterator[Reason]]] = {
            "collect": _collected,
            "deduplicate": _duplicates,
            "filter": _filtered,
        }
        return Drops(
            stages=tuple(
                StageDrops(
                    stage=stage,
                    **{name: summary[name] for name in ("read", "kept", "dropped", "quarantined")},
                    reasons=tuple(
                        sorted(
                            makers.get(stage, partial(_dropped, stage=stage))(data),
                            key=lambda reason: (-reason.count, reason.name),
                        )
                    ),
                )
                for stage, summary in reached.items()
            )
        )

    return data.remembered(Drops, key, make)


def _is_data_stage(data: RunData, stage: str) -> bool:
    return "read" in data.summary(stage) and DOCUMENTS in data.rows[stage].get("artifact", {}).get("parts", {})


def _dropped(data: RunData, stage: str) -> Iterator[Reason]:
    """Of a stage that the report has no words for: how many it dropped."""
    if count := data.summary(stage)["dropped"]:
        yield Reason(name=stage, what=f"Dropped by {stage}", count=count)


def _collected(data: RunData) -> Iterator[Reason]:
    """Modules without prose, by source; and bad records, from the quarantine."""
    for name, count in data.summary("collect").items():
        source, separator, figure = name.rpartition(".")
        if separator and figure == "dropped" and count:
            yield Reason(name=source, what=f"Too little prose, in the source {source}", count=count)
    part = data.part("collect", "quarantine")
    counts: Counter[str] = Counter()
    examples: dict[str, list[Example]] = {}
    for row in read_rows(part / "quarantine.parquet") if part else ():
        reason = row["reason"] if row["reason"] in counts or len(counts) < MOST_REASONS else "other"
        counts[reason] += 1
        if len(examples.setdefault(reason, [])) < EXAMPLES:
            title, note = f"{row['file']}, line {row['line']}", "put aside, not read"
            text = shortened(row["excerpt"])
            examples[reason].append(Example(title=title, source=row["source"], text=text, note=note))
    for reason, count in counts.items():
        yield Reason(name="bad record", what=reason, count=count, examples=tuple(examples[reason]))


def _duplicates(data: RunData) -> Iterator[Reason]:
    what = {"exact": "Equal to another except for case and white space", "near": "Nearly equal to another"}
    part, documents = data.part("deduplicate", "ledger"), data.part("collect", "documents")
    counts, picked = _pick(part, "reason")
    rows = [row for rows in picked.values() for row in rows]
    texts = _documents(documents.files if documents else (), {row[name] for row in rows for name in ("id", "twin")})
    for reason, count in counts.items():
        examples = []
        for row in picked[reason]:
            twin = texts.get(row["twin"], {})
            note = f"{row['jaccard']:.0%} of the word sequences are the same as in {twin.get('title') or row['twin']}"
            shown = shortened(twin.get("text", "")) if reason != "exact" else ""
            examples += _example(texts.get(row["id"]), note, shown)
        yield Reason(name=reason, what=what.get(reason, reason), count=count, examples=tuple(examples))


def _filtered(data: RunData) -> Iterator[Reason]:
    part, documents = data.part("filter", "ledger"), data.part("deduplicate", "documents")
    counts, picked = _pick(part, "rule")
    files = documents.files if documents else ()
    for rule, count in counts.items():
        shards = {row["shard"] for row in picked[rule] if row["shard"] < len(files)}
        texts = _documents([files[shard] for shard in sorted(shards)], {row["id"] for row in picked[rule]})
        examples = []
        for row in picked[rule]:
            note = _value_text(rule, row["value"])
            examples += _example(texts.get(row["id"]), note)
        what = _rule_text(rule, picked[rule][0]["threshold"])
        yield Reason(name=rule, what=what, count=count, examples=tuple(examples))


def _pick(part: Part | None, column: str) -> tuple[Counter[str], dict[str, list[dict[str, Any]]]]:
    """How often each reason is in a ledger, and the rows with the smallest ids: ids are hashes, so a fair draw."""
    counts: Counter[str] = Counter()
    heaps: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}
    for number, row in enumerate(read_rows(part / "ledger.parquet") if part else ()):
        reason = row[column]
        counts[reason] += 1
        heap, entry = heaps.setdefault(reason, []), (-int(row["id"][:15], 16), number, row)
        if len(heap) < EXAMPLES:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
    return counts, {reason: [row for *_, row in sorted(heap, reverse=True)] for reason, heap in heaps.items()}


def _documents(files: Sequence[StoredFile], wanted: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Some documents by id. Reads the ids of all files, and texts only of the row groups that hold one."""
    found: dict[str, Mapping[str, Any]] = {}
    missing = pa.array(sorted(set(wanted)), pa.string())
    for stored in files:
        if len(found) == len(missing):
            break
        with pq.ParquetFile(stored.path) as file:
            for group in range(file.num_row_groups):
                mask = pc.is_in(file.read_row_group(group, ["id"])["id"], missing)
                if pc.any(mask).as_py():
                    rows = file.read_row_group(group, EXAMPLE_COLUMNS).filter(mask).to_pylist()
                    found |= {row["id"]: row for row in rows}
    return found


def _example(document: Mapping[str, Any] | None, note: str, twin: str = "") -> list[Example]:
    if document is None:
        return []
    text, title = shortened(document["text"]), document["title"] or document["id"]
    return [Example(title=title, source=document["source"], text=text, note=note, twin=twin)]


def shortened(text: str, characters: int = EXAMPLE_CHARACTERS) -> str:
    """The beginning of a text, white space as single spaces."""
    line = " ".join(text[: 4 * characters].split())
    return line if len(line) <= characters else line[:characters].rstrip() + " …"


def signal_text(signal: str) -> str:
    """A signal for people, from what the recipe says of its rule: `max_top_2_gram` limits `characters in ...`."""
    for rule in (f"min_{signal}", f"max_{signal}"):
        field = FilterConfig.model_fields.get(rule)
        if field and field.description:
            words = field.description.removesuffix(".").removesuffix(" (share, 0-1)").partition(" ")
            return words[2] if words[0] in ("Fewest", "Most", "Least") else field.description
    return signal.replace("_", " ")


def is_share(signal: str) -> bool:
    """Whether the recipe calls the signal a share."""
    fields = (FilterConfig.model_fields.get(f"{side}_{signal}") for side in ("min", "max"))
    return any(field is not None and "(share" in (field.description or "") for field in fields)


def limit_text(signal: str, value: float) -> str:
    """A value of a signal: shares as per cent."""
    return f"{100 * value:.3g}\u00a0%" if is_share(signal) else f"{value:.4g}"


def _value_text(rule: str, value: float) -> str:
    if rule in LINE_RULES:
        return f"{value:.0f} lines removed"
    signal = rule.partition("_")[2] or "bytes"
    return f"{signal_text(signal)}: {limit_text(signal, value)}"


def _rule_text(rule: str, threshold: float) -> str:
    side, _, signal = rule.partition("_")
    if rule in LINE_RULES:
        described = (FilterConfig.model_fields[rule].description or "").removesuffix(".")
        return f"Too little left by the line rule: {described[:1].lower()}{described[1:]}"
    if not signal:
        return "no text, or none left after editing"
    text, relation = signal_text(signal), "below" if side == "min" else "above"
    return f"{text[:1].upper()}{text[1:]}: {relation} {limit_text(signal, threshold)}"
