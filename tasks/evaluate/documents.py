"""Which documents and pairs are measured: a sample fixed by their identities, whatever the shards they lie in.

Documents are ordered by a hash of the seed and their id; a sample is the first of them up to a budget in bytes. So
a corpus that grows keeps most of its sample, and no order of files decides a score. One pass reads lengths, a second
the chosen texts: memory is bounded by the sample, not by the corpus.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.documents import HELDOUT, TRAIN, Pair, read_pairs, read_rows
from storage.errors import DataError

WHOLE_BYTES = 10_000  # documents up to this length are always read whole
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sampled:
    """What evaluation needs of a document; `language` is an ISO 639 code or UNKNOWN."""

    id: str
    text: str
    source: str
    bytes: int
    language: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Entry:
    """A document before its text is read; `rank` orders the sample."""

    rank: bytes
    id: str
    bytes: int
    shard: Path


def index_documents(folder: Path, seed: int) -> tuple[dict[str, list[Entry]], dict[str, Any]]:
    """The documents of each split in sampling order, and a count of the corpus per source for the model card."""
    entries: dict[str, list[Entry]] = {TRAIN: [], HELDOUT: []}
    counts: dict[str, dict[str, Any]] = defaultdict(lambda: {"licenses": defaultdict(int)})
    for shard in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=["id", "split", "source", "license", "text"]):
                columns = [batch.column(name).to_pylist() for name in ("id", "split", "source", "license")]
                sizes = pc.binary_length(batch.column("text")).to_pylist()
                for identity, split, source, license_name, size in zip(*columns, sizes, strict=True):
                    entries[split].append(Entry(rank(seed, identity), identity, size, shard))
                    count = counts[source]
                    for name, amount in ((f"{split}_documents", 1), (f"{split}_bytes", size)):
                        count[name] = count.get(name, 0) + amount
                    count["licenses"][license_name or "not stated"] += 1
    corpus = {
        source: {
            **{
                f"{split}_{unit}": count.get(f"{split}_{unit}", 0)
                for split in entries
                for unit in ("documents", "bytes")
            },
            "licenses": dict(sorted(count["licenses"].items())),
        }
        for source, count in sorted(counts.items())
    }
    return {split: sorted(found, key=lambda entry: entry.rank) for split, found in entries.items()}, corpus


def check_heldout(folder: Path) -> None:
    """Raise DataError where no text is held out: then nothing can be measured. Reads as far as the first one."""
    documents = 0
    for shard in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=["split", "text"]):
                documents += len(batch)
                heldout = batch.filter(pc.equal(batch.column("split"), HELDOUT))
                if pc.any(pc.greater(pc.binary_length(heldout.column("text")), 0)).as_py():
                    return
    raise DataError(
        f"evaluate: no text of the {documents} documents is held out, so nothing can be measured; raise "
        "collect.heldout_fraction or name groups in collect.heldout_groups"
    )


def read_sample(entries: list[Entry], budget_bytes: int) -> list[Sampled]:
    """The texts of the first documents in sampling order, until `budget_bytes` are reached.

    Of a long document (a book) only the beginning is taken, so that the sample holds many documents: `WHOLE_BYTES`,
    or an equal share of the budget where there are so few documents that this is more.
    """
    limit = max(WHOLE_BYTES, budget_bytes // max(1, len(entries)))
    chosen: dict[Path, set[str]] = defaultdict(set)
    order, total = [], 0
    for entry in entries:
        if total >= budget_bytes:
            break
        chosen[entry.shard].add(entry.id)
        order.append(entry.id)
        total += min(entry.bytes, limit)
    found: dict[str, Sampled] = {}
    for shard, wanted in chosen.items():
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=["id", "text", "source", "lang"]):
                mask = pc.is_in(batch.column("id"), pa.array(sorted(wanted), pa.string()))
                for row in batch.filter(mask).to_pylist():
                    text = row["text"].encode()[:limit].decode(errors="ignore")  # may cut inside a character
                    language = _primary(row["lang"]) or UNKNOWN
                    found[row["id"]] = Sampled(row["id"], text, row["source"], len(text.encode()), language)
    return [found[identity] for identity in order]


def with_identified_languages(documents: list[Sampled], signals: Path) -> list[Sampled]:
    """The documents; where the source states no language, with the one that the filter has identified, if it has."""
    unknown = pa.array([document.id for document in documents if document.language == UNKNOWN], pa.string())
    identified: dict[str, str] = {}
    for shard in sorted(signals.glob("*.parquet")) if len(unknown) else ():
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=["id", "language"]):
                rows = batch.filter(pc.is_in(batch.column("id"), unknown))
                identified |= dict(zip(rows.column("id").to_pylist(), rows.column("language").to_pylist(), strict=True))
    return [
        replace(document, language=identified.get(document.id) or UNKNOWN) if document.language == UNKNOWN else document
        for document in documents
    ]


def heldout_pairs(folder: Path, most: int, seed: int) -> list[Pair]:
    """At most `most` held-out pairs, in an order given by their identities."""
    return some_pairs(folder, most, seed, None, HELDOUT)


def some_pairs(folder: Path, most: int, seed: int, source: str | None, split: str) -> list[Pair]:
    """At most `most` pairs of a split, of one source or of all, in an order given by their identities."""
    pairs = (pair for path in sorted(folder.glob("*.parquet")) for pair in read_pairs(path))
    chosen = [pair for pair in pairs if pair.split == split and source in (None, pair.source)]
    return sorted(chosen, key=lambda pair: (rank(seed, pair.id), pair.id))[:most]


def has_source(folders: Iterable[Path], source: str) -> bool:
    """Whether any pair of some folders is of a source."""
    files = (path for folder in folders for path in sorted(folder.glob("*.parquet")))
    return any(row["source"] == source for path in files for row in read_rows(path, ["source"]))


def _primary(language: str) -> str:
    """The language of a tag: `en` of `en-GB` and `EN_us`."""
    return language.strip().lower().replace("_", "-").partition("-")[0]


def rank(seed: int, identity: str) -> bytes:
    """16 bytes by which a sample is drawn: the smallest come first."""
    return hashlib.sha256(f"{seed}\0{identity}".encode()).digest()[:16]
