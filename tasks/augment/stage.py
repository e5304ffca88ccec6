"""The stage augment: training documents once more in other forms, beside their sources or in their place.

In: what filter leaves, or a stage after it. Out: `documents`, those of each shard with their changed forms behind them;
`ledger` (a row for each changed document: id, kind, twin: the id of its source); `middles` (where the texts of
fill-in-the-middle are cut); `signals` as the filter's, with those of its source for each changed document. A changed
document has its source's split, group and licence, and in its metadata `augmented`: kind and id of the source.

Only training documents are changed, so no form of a held-out one is ever learned. The tokenizer, fine-tuning and
evaluation read what this stage reads: originals.

1. Each shard by itself (cached): the changed forms of its documents (derive.py).
2. All shards: forms are kept in a fixed order until they are `max_share` of what is to be learned. In memory: 40 bytes
   a changed document.
3. Each shard with changed forms (cached): its documents and the forms that are kept.

Cost: 0.1 to 0.4 s of CPU a changed megabyte, for shuffles next to nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.documents import SCHEMA, count_rows, parquet_writer, read_groups, write_table
from storage.store.artifacts import Artifact, StoredFile
from tasks.augment.config import AugmentConfig
from tasks.augment.derive import DERIVED, MARKS, REWRITTEN, derive_shard
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.notices import NOTICES

DOCUMENTS, LEDGER, MIDDLES, SIGNALS = "documents", "ledger", "middles", "signals"
ALL = 2.0  # an order that no form has: all are kept
_LEDGER = ["id", "kind", "twin", "source", "bytes", "instead"]
_MIDDLES = ["id", "form", "first", "second"]


@stage(
    "augment",
    parts=(DOCUMENTS, LEDGER, MIDDLES, SIGNALS),
    reads={"documents": (DOCUMENTS,), "clean": (SIGNALS,), "rewritten": (REWRITTEN,)},
    libraries=("pyarrow", "regex", UNICODE),
    about="tasks.augment.about.AUGMENT",
    optional=("rewritten",),
)
def augment(
    config: AugmentConfig,
    documents: Artifact,
    clean: Artifact,
    rewritten: Artifact | None = None,
    *,
    context: Context,
) -> Summary:
    """Add training documents in other forms, or put these in their place. Summary: counts, also by kind.

    `clean` has the signals of the documents, `rewritten` what another model has made of them.
    """
    files = documents[DOCUMENTS].files
    settings = config.model_dump(mode="json", exclude={"max_share"})
    said = {file.name: {REWRITTEN: file} for file in rewritten[REWRITTEN].files} if rewritten is not None else {}
    jobs = [Job(file.name, settings, {DOCUMENTS: file, **said.get(file.name, {})}) for file in files]
    derived = context.map(derive_shard, jobs)
    marks = [pq.read_table(one.files[MARKS].path, columns=_ORDERED) for one in derived]
    most = most_order(config.max_share, pa.concat_tables(marks), sum(one.summary["bytes"] for one in derived))
    signals = {file.name: file for file in clean[SIGNALS].files}
    jobs = [
        Job(file.name, {"most_order": most}, _inputs(file, signals.get(file.name), one))
        for file, one in zip(files, derived, strict=True)
        if one.summary["derived"]
    ]
    written = {result.name: result for result in (context.map(write_shard, jobs) if jobs else [])}
    for part in (DOCUMENTS, LEDGER, MIDDLES, SIGNALS):
        context.part(part)
    for file in files:
        made = written[file.name].files if file.name in written else {}
        context.link(DOCUMENTS, file.name, made.get(f"{DOCUMENTS}.parquet", file))
        for part in (LEDGER, MIDDLES):
            if f"{part}.parquet" in made:
                context.link(part, file.name, made[f"{part}.parquet"])
        if file.name in signals:
            context.link(SIGNALS, file.name, made.get(f"{SIGNALS}.parquet", signals[file.name]))
    return _summary(config, files, derived, list(written.values()))


_ORDERED = ["order", "bytes", "replaced"]


def most_order(max_share: float, marks: pa.Table, original_bytes: int) -> float:
    """The place in the order before which forms are kept: as many as stay within a share of all that is then to be
    learned. `marks` has the columns of `_ORDERED`; forms of one place are kept together or not at all."""
    order, place = np.unique(marks["order"].to_numpy(), return_inverse=True)
    added = np.cumsum(np.bincount(place, marks["bytes"].to_numpy(), len(order)))
    replaced = np.cumsum(np.bincount(place, marks["replaced"].to_numpy(), len(order)))
    beyond = np.flatnonzero(added > max_share * (original_bytes + added - replaced))
    return float(order[beyond[0]]) if len(beyond) else ALL


def _inputs(documents: StoredFile, signals: StoredFile | None, derived: JobResult) -> dict[str, StoredFile]:
    files = {DOCUMENTS: documents, **derived.files}
    return files | ({SIGNALS: signals} if signals is not None else {})


def write_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write a shard's documents, without those whose forms stand in their place, and the forms that are kept; and what
    the other parts say of them. Summary: what was kept and replaced."""
    marks = pq.read_table(inputs[MARKS])
    stays = pc.less(marks["order"], config["most_order"])
    marks = marks.filter(stays)
    gone = pc.unique(marks.filter(marks["instead"])["twin"])
    with parquet_writer(out / f"{DOCUMENTS}.parquet", SCHEMA) as writer:
        for table in read_groups(inputs[DOCUMENTS]):
            table = table.filter(pc.invert(pc.is_in(table["id"], gone)))
            if len(table):
                writer.write_table(table)
        for table in read_groups(inputs[DERIVED]):
            table = table.filter(pc.is_in(table["id"], marks["id"].combine_chunks()))
            if len(table):
                writer.write_table(table)
    write_table(out / f"{LEDGER}.parquet", marks.select(_LEDGER))
    write_table(out / f"{MIDDLES}.parquet", marks.filter(pc.not_equal(marks["form"], "")).select(_MIDDLES))
    if SIGNALS in inputs:
        write_table(out / f"{SIGNALS}.parquet", _with_signals(pq.read_table(inputs[SIGNALS]), marks))
    return {
        "kinds": dict(sorted(Counter(marks["kind"].to_pylist()).items())),
        "bytes": pc.sum(marks["bytes"]).as_py() or 0,
        "replaced": len(gone),
        "replaced_bytes": pc.sum(marks["replaced"]).as_py() or 0,
    }


def _with_signals(signals: pa.Table, marks: pa.Table) -> pa.Table:
    """The signals of a shard, with those of its source for each changed document whose source has some."""
    rows = pc.index_in(marks["twin"], signals["id"].combine_chunks())
    there = pc.is_valid(rows)
    copied = signals.take(rows.filter(there))
    place = signals.schema.get_field_index("id")
    copied = copied.set_column(place, signals.schema.field("id"), marks["id"].filter(there))
    return pa.concat_tables([signals, copied])


def _summary(
    config: AugmentConfig, files: Sequence[StoredFile], derived: Sequence[JobResult], written: Sequence[JobResult]
) -> Summary:
    read = sum(count_rows(file.path) for file in files)
    kinds: Counter[str] = Counter()
    for result in written:
        kinds.update(result.summary["kinds"])
    read_bytes = sum(one.summary["bytes"] for one in derived)
    made, kept = sum(one.summary["derived"] for one in derived), kinds.total()
    return {
        "read": read,
        "kept": read,
        "dropped": 0,
        "quarantined": 0,
        "replaced": sum(result.summary["replaced"] for result in written),
        "augmented": kept,
        "augmented_bytes": sum(result.summary["bytes"] for result in written),
        "original_bytes": read_bytes - sum(result.summary["replaced_bytes"] for result in written),
        **{f"augmented_{kind}": kinds[kind] for kind in config.kinds},
        NOTICES: _notices(config, kinds, made - kept),
    }


def _notices(config: AugmentConfig, kinds: Counter[str], left_out: int) -> list[str]:
    sentences = [
        f"augment: {kind} has changed no document: the texts have nothing that it changes, or its share "
        f"(augment.{kind}.share) is too small"
        for kind in config.kinds
        if not kinds[kind]
    ]
    if left_out:
        sentences.append(
            f"augment: {left_out:,} changed documents were left out: they would have been more than "
            f"{config.max_share:.0%} of what is learned (augment.max_share)"
        )
    return sentences
