"""The stage deduplicate: documents in, the same without duplicates out, and a ledger of who was dropped for whom.

1. Each shard by itself (cached): a digest of every normalised text, MinHash signature, band keys.
2. All together: equal texts form groups; one of each group meets the others in equal bands; such a candidate pair
   is a duplicate where the exact Jaccard similarity of the word 5-gram sets reaches the threshold; clusters are the
   connected components. Memory: some 60 bytes a document, and the candidates of one block (similarity.py).
3. Each shard by itself (cached by the rows that it loses): the kept documents. A shard that loses none is not
   copied but linked.

The longest document of a cluster stays, then the earlier; a cluster that spans the split keeps a held-out member
and loses all others. Methods: MinHash banding (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3), settings of
FineWeb, verification after Lee et al. 2021 (arXiv 2107.06499).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifacts import Artifact
from storage.errors import DataError
from tasks.context import Context, Job, JobResult, Summary
from tasks.deduplicate.clusters import Numbers, candidate_pairs, components, equal_groups, kept_members
from tasks.deduplicate.config import DeduplicateConfig
from tasks.deduplicate.shingles import UnsignedArray
from tasks.deduplicate.signatures import INDEX_SCHEMA, sign_shard
from tasks.deduplicate.similarity import exact_jaccards
from tasks.kept_rows import copy_kept_rows
from tasks.stage import stage

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # the dropped document
        pa.field("reason", pa.string(), nullable=False),  # exact: equal but for case and white space; near
        pa.field("twin", pa.string(), nullable=False),  # id of the document kept in its place
        pa.field("jaccard", pa.float64(), nullable=False),  # exact similarity to the twin
        pa.field("estimated_jaccard", pa.float64(), nullable=False),  # share of equal signature values
        pa.field("shard", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """What is known of all documents, by number: shard after shard, row after row."""

    shards: list[Path]
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


@dataclass(frozen=True)
class Compared:
    """Pairs of documents (ascending, each once) and their exact Jaccard similarities."""

    pairs: Numbers  # (pairs, 2)
    similarities: npt.NDArray[np.float64]

    def look_up(self, pairs: Numbers, documents: int) -> npt.NDArray[np.float64]:
        """The similarities of some pairs, NaN for one that was not compared. `documents` is their number in all."""
        codes, wanted = (array[:, 0] * documents + array[:, 1] for array in (self.pairs, pairs))
        found = np.full(len(wanted), np.nan)
        positions = np.searchsorted(codes, wanted)
        inside = np.flatnonzero(positions < len(codes))
        inside = inside[codes[positions[inside]] == wanted[inside]]
        found[inside] = self.similarities[positions[inside]]
        return found


@stage("deduplicate", parts=("documents", "ledger"), reads={"collected": ("documents",)}, libraries=("pyarrow",))
def deduplicate(config: DeduplicateConfig, collected: Artifact, *, context: Context) -> Summary:
    """Drop exact and near duplicates. Summary: counts by reason, candidates, the S-curve of the banding."""
    files = collected["documents"].files
    identity = {name: getattr(config, name) for name in ("bands", "rows", "shingle_words", "seed")}
    signed = context.map(sign_shard, [Job(file.name, identity, {"documents": file}) for file in files])
    corpus = _load([file.path for file in files], signed)

    first_equal = equal_groups(*corpus.digests)
    compared, kept = _clusters(config, corpus, first_equal)
    dropped = np.flatnonzero(kept != np.arange(len(corpus)))
    ledger = _ledger(config, corpus, dropped, kept, first_equal, compared)
    pq.write_table(ledger, context.part("ledger") / "ledger.parquet", compression="zstd")

    rows_lost = np.split(dropped, np.searchsorted(dropped, corpus.first_numbers[1:-1]))
    jobs = [
        Job(file.name, {"dropped": (lost - first).tolist()}, {"documents": file})
        for file, lost, first in zip(files, rows_lost, corpus.first_numbers.tolist(), strict=False)
    ]
    written = iter(context.map(keep_rows, [job for job in jobs if job.config["dropped"]]))
    for job in jobs:
        file = next(written).files["documents.parquet"] if job.config["dropped"] else job.inputs["documents"]
        context.link("documents", job.name, file)
    return _summary(config, corpus, dropped, kept, ledger, len(compared.pairs))


def keep_rows(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write a shard's documents without the rows listed in `config["dropped"]`."""
    return {"documents": copy_kept_rows(inputs["documents"], out / "documents.parquet", config["dropped"])}


def _load(shards: list[Path], signed: list[JobResult]) -> Corpus:
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


def _clusters(config: DeduplicateConfig, corpus: Corpus, first_equal: Numbers) -> tuple[Compared, Numbers]:
    """The candidates with their exact similarities, and for each document the member of its cluster that stays."""
    numbers = np.arange(len(corpus))
    singles = np.flatnonzero(first_equal == numbers)  # the first of each group of equal texts

    def bands() -> Iterator[UnsignedArray]:
        paths = [result.files["bands.npy"].path for result in corpus.signed]
        for band in range(config.bands):
            keys = [np.load(path, mmap_mode="r", allow_pickle=False)[band] for path in paths]
            yield np.concatenate(keys)[singles]

    pairs = candidate_pairs(bands(), singles)
    similarities = exact_jaccards(pairs, corpus.shards, corpus.first_numbers, corpus.sizes, config.shingle_words)
    near = pairs[similarities >= config.threshold]
    equal = np.stack((first_equal, numbers), axis=1)[first_equal != numbers]
    labels = components(len(corpus), np.concatenate((equal, near)))
    return Compared(pairs, similarities), kept_members(labels, corpus.heldout, corpus.lengths)


def _ledger(
    config: DeduplicateConfig,
    corpus: Corpus,
    dropped: Numbers,
    kept: Numbers,
    first_equal: Numbers,
    compared: Compared,
) -> pa.Table:
    """A row for each dropped document; a similarity that no candidate pair has given is computed here."""
    twins = kept[dropped]
    pairs = np.sort(np.stack((first_equal[dropped], first_equal[twins]), axis=1), axis=1)
    exact = pairs[:, 0] == pairs[:, 1]
    similarities = np.where(exact, 1.0, compared.look_up(pairs, len(corpus)))
    missing = np.isnan(similarities)
    similarities[missing] = exact_jaccards(
        pairs[missing], corpus.shards, corpus.first_numbers, corpus.sizes, config.shingle_words
    )
    return pa.table(
        {
            "id": corpus.ids.take(dropped),
            "reason": np.where(exact, "exact", "near"),
            "twin": corpus.ids.take(twins),
            "jaccard": similarities,
            "estimated_jaccard": (_signatures(corpus, dropped) == _signatures(corpus, twins)).mean(axis=1),
            "shard": corpus.shard_of(dropped).astype(np.int32),
        },
        schema=LEDGER_SCHEMA,
    )


def _signatures(corpus: Corpus, numbers: Numbers) -> npt.NDArray[np.uint32]:
    """The signatures of some documents, shape (numbers, permutations)."""
    owners = corpus.shard_of(numbers)
    width = np.load(corpus.signed[0].files["signatures.npy"].path, mmap_mode="r", allow_pickle=False).shape[1]
    found = np.empty((len(numbers), width), np.uint32)
    for shard in np.unique(owners).tolist():
        stored = np.load(corpus.signed[shard].files["signatures.npy"].path, mmap_mode="r", allow_pickle=False)
        here = owners == shard
        found[here] = stored[numbers[here] - corpus.first_numbers[shard]]
    return found


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
