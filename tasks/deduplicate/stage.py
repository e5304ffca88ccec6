"""The stage deduplicate: documents in, the same without duplicates out, and a ledger of who was dropped for whom.

1. Each shard by itself (cached): a digest of every normalised text, and its MinHash signature.
2. All together: equal texts form groups; one of each group meets the others in equal bands; such a candidate pair
   is similar where the exact Jaccard similarity of the word 5-gram sets reaches the threshold; the sets of the
   documents that are in a pair are written shard by shard (cached). Documents are ranked: those of external corpora,
   then held out before training, then by the rule `keep`. By rank each stays, unless one that stays is similar to it;
   external ones stay always. Those that stay meet again in their bands until nothing similar is found. Memory: some
   200 bytes a document.
3. Each shard by itself (cached by the rows that it loses): the kept documents. A shard that loses none is not
   copied but linked. Where repeated lines are to go, these are counted in what is kept, and taken out (lines.py); then
   passages that occurred before (passages.py).

So each document that goes is similar, by the threshold, to the one that the ledger names. A chain of documents, each
like the next, is thinned out; taken as one cluster (connected components) it would shrink to one document that most
are not like. A cluster that spans the split keeps a held-out member and loses the training documents that are like it.
Methods: MinHash banding (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3), settings of FineWeb, verification
after Lee et al. 2021 (arXiv 2107.06499).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import write_table
from storage.store.artifacts import Artifact, StoredFile
from tasks.deduplicate.against import external_files, observe_against
from tasks.deduplicate.clusters import Numbers, candidate_pairs, codes, equal_groups, ranking, representatives, without
from tasks.deduplicate.config import DeduplicateConfig, RepeatedLines, RepeatedPassages
from tasks.deduplicate.corpus import Corpus, load
from tasks.deduplicate.keep import merits
from tasks.deduplicate.lines import LINES_SCHEMA, count_lines, keep_lines, merge_removed
from tasks.deduplicate.passages import PASSAGES_SCHEMA, drop_passages, find_anchors, find_passages, hash_windows
from tasks.deduplicate.repeated import find_repeated
from tasks.deduplicate.signatures import sign_shard
from tasks.deduplicate.similarity import ShingleSets, exact_jaccards, write_sets
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.shards.drop_rows import drop_rows

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the dropped document
        # exact: equal as compared (shingles.normalise); near; `against NAME`: like a document of that external corpus;
        # lines: nothing but repeated lines; passages: nothing but passages that occurred before
        pa.field("reason", pa.string(), nullable=False),
        # id of the document kept in its place; empty for lines and passages
        pa.field("twin", pa.string(), nullable=False),
        pa.field("jaccard", pa.float64(), nullable=False),  # exact similarity to the twin
        pa.field("estimated_jaccard", pa.float64(), nullable=False),  # share of equal signature values
        pa.field("shard", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Similar:
    """The pairs of documents, by rank, that reach the threshold: (lower, higher), ascending; and how similar."""

    pairs: Numbers  # (pairs, 2)
    similarities: npt.NDArray[np.float64]
    candidates: int  # pairs that were compared

    def look_up(self, pairs: Numbers, documents: int) -> npt.NDArray[np.float64]:
        """The similarities of some of the pairs. `documents` is the number of documents in all."""
        return self.similarities[np.searchsorted(codes(self.pairs, documents), codes(pairs, documents))]


@stage(
    "deduplicate",
    parts=("documents", "ledger", "lines", "passages"),
    reads={"collected": ("documents",)},
    observe=observe_against,
    libraries=("pyarrow", UNICODE),
    about="tasks.deduplicate.about.DEDUPLICATE",
)
def deduplicate(config: DeduplicateConfig, collected: Artifact, *, context: Context) -> Summary:
    """Drop exact and near duplicates. Summary: counts by reason, candidates, the S-curve of the banding."""
    corpus = _sign(config, collected, context)
    order = _ranked(config, corpus)
    first_equal = equal_groups(*(half[order] for half in corpus.digests))
    similar, stays = _similar(config, corpus, order, first_equal, context)
    kept, jaccards = np.empty(len(corpus), np.int64), np.empty(len(corpus))
    kept[order] = order[stays[first_equal]]
    jaccards[order] = _similarities(similar, first_equal, stays)
    dropped = np.flatnonzero(kept != np.arange(len(corpus)))
    dropped = dropped[dropped >= corpus.first_own]
    ledger = _ledger(config, corpus, dropped, kept[dropped], jaccards[dropped])
    summary = _summary(config, corpus, dropped, kept, ledger, similar.candidates)

    rows = [lost.tolist() for lost in corpus.by_shard(dropped)[len(corpus.external) :]]
    ledgers = [ledger]
    if config.repeated_lines:
        files, emptied, figures = _without_lines(config.repeated_lines, corpus, rows, context)
        ledgers, summary = [*ledgers, emptied], summary | figures
    else:
        files = _without_rows(corpus, rows, context)
        write_table(context.part("lines") / "lines.parquet", LINES_SCHEMA.empty_table())
    if config.repeated_passages:
        files, emptied, figures = _without_passages(config.repeated_passages, files, context)
        ledgers, summary = [*ledgers, emptied], summary | figures
    else:
        write_table(context.part("passages") / "passages.parquet", PASSAGES_SCHEMA.empty_table())
    for shard, file in zip(corpus.files, files, strict=True):
        context.link("documents", shard.name, file)
    ledger = pa.concat_tables(ledgers)
    write_table(context.part("ledger") / "ledger.parquet", ledger)
    return summary | {"kept": summary["read"] - len(ledger), "dropped": len(ledger)}


def _without_rows(corpus: Corpus, rows: Sequence[list[int]], context: Context) -> list[StoredFile]:
    """The shards without their rows; one that loses none as it is."""
    jobs = [
        Job(file.name, {"dropped": lost}, {"documents": file})
        for file, lost in zip(corpus.files, rows, strict=True)
        if lost
    ]
    return _written(corpus.files, jobs, context.map(keep_rows, jobs))


def _written(files: Sequence[StoredFile], jobs: Sequence[Job], results: Sequence[JobResult]) -> list[StoredFile]:
    """The files with those that jobs of their names have written anew."""
    made = {job.name: result.files["documents.parquet"] for job, result in zip(jobs, results, strict=True)}
    return [made.get(file.name, file) for file in files]


def _without_lines(
    config: RepeatedLines, corpus: Corpus, rows: Sequence[list[int]], context: Context
) -> tuple[list[StoredFile], pa.Table, Summary]:
    """The shards without their rows and without repeated lines; ledger rows of what was nothing else, figures."""
    by_words = {"unit": config.unit, "min_words": config.min_words}
    pairs = list(zip(corpus.files, rows, strict=True))
    counted = context.map(
        count_lines, [Job(file.name, {**by_words, "dropped": lost}, {"documents": file}) for file, lost in pairs]
    )
    repeated = find_repeated(counted, config.documents)
    here = [repeated.of_shard(shard, result) for shard, result in enumerate(counted)]
    settings = {**by_words, "keep_first": config.keep_first}
    jobs = [
        Job(file.name, {**settings, "dropped": lost, **lines}, {"documents": file})
        for (file, lost), lines in zip(pairs, here, strict=True)
    ]
    worked_on = [job for job in jobs if job.config["dropped"] or job.config["repeated"]]
    written = context.map(keep_lines, worked_on)
    removed = merge_removed(repeated, (pq.read_table(one.files["removed.parquet"].path) for one in written))
    write_table(context.part("lines") / "lines.parquet", removed)
    summaries = {job.name: result.summary for job, result in zip(worked_on, written, strict=True)}
    emptied = [summaries[file.name]["emptied"] if file.name in summaries else [] for file in corpus.files]
    total = {name: sum(one.summary[name] for one in written) for name in ("removed", "edited", "removed_bytes")}
    figures = {
        "dropped_lines": sum(map(len, emptied)),
        "repeated_lines": len(removed),
        "lines_removed": total["removed"],
        "lines_removed_bytes": total["removed_bytes"],
        "documents_edited": total["edited"],
    }
    return _written(corpus.files, worked_on, written), _emptied(corpus, emptied), figures


def _without_passages(
    config: RepeatedPassages, files: Sequence[StoredFile], context: Context
) -> tuple[list[StoredFile], pa.Table, Summary]:
    """The shards without passages that occurred before; ledger rows of what was nothing else, figures."""
    size = config.min_characters
    by_size = {"min_characters": size}
    found = context.map(find_anchors, [Job(file.name, by_size, {"documents": file}) for file in files])
    twice = find_repeated(found, 2)
    anchors = [twice.of_shard(shard, result)["repeated"] for shard, result in enumerate(found)]
    jobs = [
        Job(file.name, {**by_size, "repeated": here}, {"documents": file})
        for file, here in zip(files, anchors, strict=True)
    ]
    passages = find_passages(context.map(hash_windows, jobs), size)
    worked_on = [
        Job(file.name, {"passages": here.tolist()}, {"documents": file})
        for file, here in zip(files, passages, strict=True)
        if len(here)
    ]
    written = context.map(drop_passages, worked_on)
    removed = (pq.read_table(one.files["removed.parquet"].path) for one in written)
    write_table(
        context.part("passages") / "passages.parquet", pa.concat_tables([PASSAGES_SCHEMA.empty_table(), *removed])
    )
    shards = {file.name: number for number, file in enumerate(files)}
    emptied = [
        {
            "id": one,
            "reason": "passages",
            "twin": "",
            "jaccard": 0.0,
            "estimated_jaccard": 0.0,
            "shard": shards[job.name],
        }
        for job, result in zip(worked_on, written, strict=True)
        for one in result.summary["emptied"]
    ]
    total = {name: sum(one.summary[name] for one in written) for name in ("removed", "edited", "removed_bytes")}
    figures = {
        "dropped_passages": len(emptied),
        "passages_removed": total["removed"],
        "passages_removed_bytes": total["removed_bytes"],
        "documents_cut": total["edited"],
    }
    return _written(files, worked_on, written), pa.Table.from_pylist(emptied, schema=LEDGER_SCHEMA), figures


def _emptied(corpus: Corpus, rows: Sequence[list[int]]) -> pa.Table:
    """Ledger rows of documents of which repeated lines were all; no other document stays in their place."""
    firsts = corpus.first_numbers[len(corpus.external) : -1].tolist()
    numbers = np.array([first + row for first, lost in zip(firsts, rows, strict=True) for row in lost], np.int64)
    zeros = np.zeros(len(numbers))
    shards = (corpus.shard_of(numbers) - len(corpus.external)).astype(np.int32)
    return pa.table(
        [corpus.ids.take(pa.array(numbers)), ["lines"] * len(numbers), [""] * len(numbers), zeros, zeros, shards],
        schema=LEDGER_SCHEMA,
    )


def keep_rows(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without the rows listed in `config["dropped"]`."""
    return {"documents": drop_rows(inputs["documents"], out / "documents.parquet", config["dropped"])}


def _sign(config: DeduplicateConfig, collected: Artifact, context: Context) -> Corpus:
    """Sign every shard and every external file."""
    external, files = external_files(config), collected["documents"].files
    identity = {name: getattr(config, name) for name in ("bands", "rows", "shingle_words", "seed")}
    jobs = [Job(one.label, {**identity, "label": one.label}, {"documents": one.file}) for one in external]
    jobs += [Job(file.name, identity, {"documents": file}) for file in files]
    return load(external, files, context.map(sign_shard, jobs))


def _ranked(config: DeduplicateConfig, corpus: Corpus) -> Numbers:
    """The documents by rank: external ones, held-out ones, then by the rule that the user has chosen."""
    own = slice(corpus.first_own, None)
    chosen = merits(config, [file.path for file in corpus.files], corpus.lengths[own])
    order = ranking(corpus.heldout[own], *chosen) + corpus.first_own
    return np.concatenate((np.arange(corpus.first_own), order))


def _similar(
    config: DeduplicateConfig, corpus: Corpus, order: Numbers, first_equal: Numbers, context: Context
) -> tuple[Similar, Numbers]:
    """The similar pairs by rank, and for each document the one that stays for it (itself for all but the first equal).

    A bucket's members are compared with its first and their predecessor only, and the first may go for another: so
    those that stay are paired again until no similar pair is found. External documents all stay, but of those that are
    like each other only the first is paired again: otherwise the same would meet in a bucket each time.
    """

    def pair(documents: Numbers) -> Numbers:
        return candidate_pairs(corpus.bands(config.bands, config.rows, order[documents]), documents)

    pairs, similarities = np.empty((0, 2), np.int64), np.empty(0)
    new = pair(np.flatnonzero(first_equal == np.arange(len(corpus))))
    sets = _sets(config, corpus, np.unique(order[new]), context)
    while True:
        found = exact_jaccards(order[new], sets)
        pairs, similarities = np.concatenate((pairs, new)), np.concatenate((similarities, found))
        ascending = np.argsort(codes(pairs, len(corpus)))
        pairs, similarities = pairs[ascending], similarities[ascending]
        near = similarities >= config.threshold
        stays = representatives(len(corpus), pairs[near], corpus.first_own)
        if not (found >= config.threshold).any():
            return Similar(pairs[near], similarities[near], len(pairs)), stays
        first = representatives(len(corpus), pairs[near]) if corpus.first_own else stays
        paired = np.unique(pairs)  # who shares a band with nobody will not later
        new = without(pair(paired[(stays[paired] == paired) & (first[paired] == paired)]), pairs, len(corpus))


def _sets(config: DeduplicateConfig, corpus: Corpus, wanted: Numbers, context: Context) -> ShingleSets:
    """The shingle sets of the wanted documents (ascending numbers), shard by shard."""
    shards = [(one.file, {"label": one.label}) for one in corpus.external] + [(file, {}) for file in corpus.files]
    jobs = [
        Job(
            known.get("label", file.name),
            {"rows": rows.tolist(), "shingle_words": config.shingle_words, **known},
            {"documents": file},
        )
        for (file, known), rows in zip(shards, corpus.by_shard(wanted), strict=True)
        if len(rows)
    ]
    written = context.map(write_sets, jobs)
    sets, sizes = ([result.files[name].path for result in written] for name in ("sets.bin", "sizes.npy"))
    return ShingleSets(wanted, sets, sizes)


def _similarities(similar: Similar, first_equal: Numbers, stays: Numbers) -> npt.NDArray[np.float64]:
    """By rank, the exact similarity of each document to the one that stays for it; 1 where they are equal."""
    pairs = np.stack((stays[first_equal], first_equal), axis=1)
    near = pairs[:, 0] != pairs[:, 1]
    found = np.ones(len(first_equal))
    found[near] = similar.look_up(pairs[near], len(first_equal))
    return found


def _ledger(
    config: DeduplicateConfig, corpus: Corpus, dropped: Numbers, twins: Numbers, jaccards: npt.NDArray[np.float64]
) -> pa.Table:
    """A row for each dropped document."""
    highs, lows = corpus.digests
    exact = (highs[dropped] == highs[twins]) & (lows[dropped] == lows[twins])
    reasons = np.where(exact, "exact", "near").astype(object)
    outside = twins < corpus.first_own
    reasons[outside] = [f"against {corpus.external[shard].corpus}" for shard in corpus.shard_of(twins[outside])]
    return pa.table(
        {
            "id": corpus.ids.take(pa.array(dropped)),
            "reason": reasons,
            "twin": corpus.ids.take(pa.array(twins)),
            "jaccard": jaccards,
            "estimated_jaccard": corpus.estimates(config.bands, config.rows, dropped, twins),
            "shard": (corpus.shard_of(dropped) - len(corpus.external)).astype(np.int32),
        },
        schema=LEDGER_SCHEMA,
    )


def _summary(
    config: DeduplicateConfig, corpus: Corpus, dropped: Numbers, kept: Numbers, ledger: pa.Table, candidates: int
) -> Summary:
    reasons = Counter(ledger["reason"].to_pylist())
    read = len(corpus) - corpus.first_own
    crossing = ~corpus.heldout[dropped] & corpus.heldout[kept[dropped]]
    summary: Summary = {
        "read": read,
        "kept": read - len(dropped),
        "dropped": len(dropped),
        "quarantined": 0,
        "dropped_exact": reasons["exact"],
        "dropped_near": reasons["near"],
        **{f"dropped_against.{one.name}": reasons[f"against {one.name}"] for one in config.against},
        "dropped_training_twins_of_heldout": int(np.count_nonzero(crossing)),
        "dropped_bytes": int(corpus.sizes[dropped].sum()),
        "candidate_pairs": candidates,
    }
    for similarity in (0.5, 0.7, 0.8, 0.9):
        summary[f"candidate_probability_at_{similarity}"] = round(config.candidate_probability(similarity), 4)
    return summary
