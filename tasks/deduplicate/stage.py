"""The stage deduplicate: documents in, the same without duplicates out, and a ledger of who was dropped for whom.

1. Each shard by itself (cached): a digest of every normalised text, MinHash signature, band keys.
2. All together: equal texts form groups; one of each group meets the others in equal bands; such a candidate pair
   is similar where the exact Jaccard similarity of the word 5-gram sets reaches the threshold. Documents are ranked:
   held out before training, then the longer, then the earlier. By rank each stays, unless one that stays is similar
   to it. Those that stay meet again in their bands until nothing similar is found. Memory: some 60 bytes a document,
   and the candidates of one block (similarity.py).
3. Each shard by itself (cached by the rows that it loses): the kept documents. A shard that loses none is not
   copied but linked.

So each document that goes is similar, by the threshold, to the one that the ledger names. A chain of documents, each
like the next, is thinned out; taken as one cluster (connected components) it would shrink to one document that most
are not like. A cluster that spans the split keeps a held-out member and loses the training documents that are like it.
Methods: MinHash banding (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3), settings of FineWeb, verification
after Lee et al. 2021 (arXiv 2107.06499).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import write_table
from storage.errors import DataError
from storage.store.artifacts import Artifact, StoredFile
from tasks.deduplicate.clusters import Numbers, candidate_pairs, codes, equal_groups, ranking, representatives, without
from tasks.deduplicate.config import DeduplicateConfig
from tasks.deduplicate.shingles import UnsignedArray
from tasks.deduplicate.signatures import INDEX_SCHEMA, band_keys, sign_shard
from tasks.deduplicate.similarity import ShingleSets, exact_jaccards, write_sets
from tasks.engine.context import Context, Job, JobResult, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.shards.drop_rows import drop_rows

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the dropped document
        pa.field("reason", pa.string(), nullable=False),  # exact: equal as compared (shingles.normalise); near
        pa.field("twin", pa.string(), nullable=False),  # id of the document kept in its place
        pa.field("jaccard", pa.float64(), nullable=False),  # exact similarity to the twin
        pa.field("estimated_jaccard", pa.float64(), nullable=False),  # share of equal signature values
        pa.field("shard", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """What is known of all documents, by number: shard after shard, row after row."""

    shards: Sequence[StoredFile]
    signed: list[JobResult]
    first_numbers: Numbers  # of each shard, and the number of documents
    heldout: npt.NDArray[np.bool_]
    sizes: Numbers  # UTF-8 bytes of the text
    lengths: Numbers  # the same without superfluous white space: by these the longest is chosen
    digests: tuple[UnsignedArray, UnsignedArray]
    ids: pa.ChunkedArray

    def __len__(self) -> int:
        return int(self.first_numbers[-1])

    def shard_of(self, numbers: Numbers) -> Numbers:
        return np.searchsorted(self.first_numbers, numbers, side="right") - 1

    def by_shard(self, numbers: Numbers) -> list[Numbers]:
        """Of some documents (ascending numbers) the rows in each shard."""
        borders = np.searchsorted(numbers, self.first_numbers)
        firsts = self.first_numbers.tolist()
        return [numbers[begin:end] - first for begin, end, first in zip(borders, borders[1:], firsts, strict=False)]


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
    parts=("documents", "ledger"),
    reads={"collected": ("documents",)},
    libraries=("pyarrow", UNICODE),
    about="tasks.deduplicate.about.DEDUPLICATE",
)
def deduplicate(config: DeduplicateConfig, collected: Artifact, *, context: Context) -> Summary:
    """Drop exact and near duplicates. Summary: counts by reason, candidates, the S-curve of the banding."""
    files = collected["documents"].files
    identity = {name: getattr(config, name) for name in ("bands", "rows", "shingle_words", "seed")}
    signed = context.map(sign_shard, [Job(file.name, identity, {"documents": file}) for file in files])
    corpus = _load(files, signed)

    order = ranking(corpus.heldout, corpus.lengths)
    first_equal = equal_groups(*(half[order] for half in corpus.digests))
    similar, stays = _similar(config, corpus, order, first_equal, context)
    kept, jaccards = np.empty(len(corpus), np.int64), np.empty(len(corpus))
    kept[order] = order[stays[first_equal]]
    jaccards[order] = _similarities(similar, first_equal, stays)
    dropped = np.flatnonzero(kept != np.arange(len(corpus)))
    ledger = _ledger(config, corpus, dropped, kept[dropped], jaccards[dropped])
    write_table(context.part("ledger") / "ledger.parquet", ledger)

    jobs = [
        Job(file.name, {"dropped": lost.tolist()}, {"documents": file})
        for file, lost in zip(files, corpus.by_shard(dropped), strict=True)
    ]
    written = iter(context.map(keep_rows, [job for job in jobs if job.config["dropped"]]))
    for job in jobs:
        file = next(written).files["documents.parquet"] if job.config["dropped"] else job.inputs["documents"]
        context.link("documents", job.name, file)
    return _summary(config, corpus, dropped, kept, ledger, similar.candidates)


def keep_rows(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without the rows listed in `config["dropped"]`."""
    return {"documents": drop_rows(inputs["documents"], out / "documents.parquet", config["dropped"])}


def _load(shards: Sequence[StoredFile], signed: list[JobResult]) -> Corpus:
    tables = [pq.read_table(result.files["index.parquet"].path) for result in signed]
    first_numbers = np.cumsum([0, *(len(table) for table in tables)])
    if not first_numbers[-1]:
        raise DataError("deduplicate: the stage collect has left no document; name a source that holds text")
    table = pa.concat_tables(tables)
    columns = {name: table[name].to_numpy() for name in INDEX_SCHEMA.names if name != "id"}
    digests = (columns["digest_high"], columns["digest_low"])
    return Corpus(
        shards,
        signed,
        first_numbers,
        columns["heldout"],
        sizes=columns["bytes"],
        lengths=columns["folded_bytes"],
        digests=digests,
        ids=table["id"],
    )


def _similar(
    config: DeduplicateConfig, corpus: Corpus, order: Numbers, first_equal: Numbers, context: Context
) -> tuple[Similar, Numbers]:
    """The similar pairs by rank, and for each document the one that stays for it (itself for all but the first equal).

    A bucket's members are compared with its first and their predecessor only, and the first may go for another: so
    those that stay are paired again until no similar pair is found.
    """
    ranks = np.arange(len(corpus))
    documents = np.flatnonzero(first_equal == ranks)
    pairs, similarities = np.empty((0, 2), np.int64), np.empty(0)
    new = candidate_pairs(_bands(config, corpus, order[documents]), documents)
    sets = _sets(config, corpus, np.unique(order[new]), context)
    while True:
        found = exact_jaccards(order[new], sets)
        pairs, similarities = np.concatenate((pairs, new)), np.concatenate((similarities, found))
        ascending = np.argsort(codes(pairs, len(corpus)))
        pairs, similarities = pairs[ascending], similarities[ascending]
        near = similarities >= config.threshold
        stays = representatives(len(corpus), pairs[near])
        if not (found >= config.threshold).any():
            return Similar(pairs[near], similarities[near], len(pairs)), stays
        paired = np.unique(pairs)  # who shares a band with nobody will not later
        documents = paired[stays[paired] == paired]
        new = without(candidate_pairs(_bands(config, corpus, order[documents]), documents), pairs, len(corpus))


def _sets(config: DeduplicateConfig, corpus: Corpus, wanted: Numbers, context: Context) -> ShingleSets:
    """The shingle sets of the wanted documents (ascending numbers), shard by shard."""
    jobs = [
        Job(file.name, {"rows": rows.tolist(), "shingle_words": config.shingle_words}, {"documents": file})
        for file, rows in zip(corpus.shards, corpus.by_shard(wanted), strict=True)
        if len(rows)
    ]
    written = context.map(write_sets, jobs)
    sets, sizes = ([result.files[name].path for result in written] for name in ("sets.bin", "sizes.npy"))
    return ShingleSets(wanted, sets, sizes)


def _bands(config: DeduplicateConfig, corpus: Corpus, numbers: Numbers) -> Iterator[UnsignedArray]:
    """The keys of some documents in each band."""
    for band in range(config.bands):
        keys = [band_keys(minima, 1)[0] for minima in _minima(config, corpus, band)]
        yield np.concatenate(keys)[numbers]


def _minima(config: DeduplicateConfig, corpus: Corpus, band: int) -> Iterator[npt.NDArray[np.uint32]]:
    """A band of the signatures, shard by shard, shape (rows, documents): 32 bytes a document, not 448."""
    for result, documents in zip(corpus.signed, np.diff(corpus.first_numbers).tolist(), strict=True):
        size = config.rows * documents
        minima = np.fromfile(result.files["signatures.bin"].path, np.uint32, size, offset=4 * band * size)
        yield minima.reshape(config.rows, documents)


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
    return pa.table(
        {
            "id": corpus.ids.take(dropped),
            "reason": np.where(exact, "exact", "near"),
            "twin": corpus.ids.take(twins),
            "jaccard": jaccards,
            "estimated_jaccard": _estimates(config, corpus, dropped, twins),
            "shard": corpus.shard_of(dropped).astype(np.int32),
        },
        schema=LEDGER_SCHEMA,
    )


def _estimates(config: DeduplicateConfig, corpus: Corpus, dropped: Numbers, twins: Numbers) -> npt.NDArray[np.float64]:
    """The share of equal values in the signatures of each dropped document and its twin."""
    equal = np.zeros(len(dropped), np.int64)
    for band in range(config.bands):
        minima = np.concatenate(list(_minima(config, corpus, band)), axis=1)
        equal += np.count_nonzero(minima[:, dropped] == minima[:, twins], axis=0)
    return equal / (config.bands * config.rows)


def _summary(
    config: DeduplicateConfig, corpus: Corpus, dropped: Numbers, kept: Numbers, ledger: pa.Table, candidates: int
) -> Summary:
    reasons = ledger["reason"].to_pylist()
    crossing = ~corpus.heldout[dropped] & corpus.heldout[kept[dropped]]
    summary = {
        "read": len(corpus),
        "kept": len(corpus) - len(dropped),
        "dropped": len(dropped),
        "quarantined": 0,
        "dropped_exact": reasons.count("exact"),
        "dropped_near": reasons.count("near"),
        "dropped_training_twins_of_heldout": int(np.count_nonzero(crossing)),
        "dropped_bytes": int(corpus.sizes[dropped].sum()),
        "candidate_pairs": candidates,
    }
    for similarity in (0.5, 0.7, 0.8, 0.9):
        summary[f"candidate_probability_at_{similarity}"] = round(config.candidate_probability(similarity), 4)
    return summary
