"""MinHash signatures in datasketch's `affine32` scheme, and the bands by which near duplicates find each other.

The arithmetic is that of datasketch 2 bit for bit (a test compares with `MinHash.update_batch`): the 32-bit shingle
hash goes once through MurmurHash3's finaliser, permutation k is h -> a_k * h + b_k mod 2^32 with a_k odd, and the
signature holds the minimum of each. Only the loop differs: one multiply-add over all shingles of a batch for four
permutations, and one `minimum.reduceat` at the starts of the documents.

Two signatures agree in a share of their values that estimates the Jaccard similarity. Cost: about 20 microseconds
for a document of 2.8 kB and 112 permutations.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.documents import HELDOUT, read_tables, write_table
from tasks.deduplicate.against import external_documents
from tasks.deduplicate.shingles import Shingles, UnsignedArray, batches, digest, encode, shingle, text_borders
from tasks.engine.context import Summary

INDEX_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("heldout", pa.bool_(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the text
        pa.field("folded_bytes", pa.int64(), nullable=False),  # without superfluous white space
        pa.field("digest_high", pa.uint64(), nullable=False),
        pa.field("digest_low", pa.uint64(), nullable=False),
    ]
)

_AT_ONCE = 4  # permutations; more leave the processor's cache, fewer cost more calls
_BAND_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@functools.lru_cache(maxsize=1)
def permutations(count: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """The factors (odd) and summands of datasketch's `MinHash(num_perm=count, seed=seed, scheme="affine32")`."""
    generator = np.random.RandomState(seed)  # frozen by numpy's compatibility promise
    factors = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    summands = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return factors, summands


def shingle_hashes32(hashes: UnsignedArray) -> npt.NDArray[np.uint32]:
    """What datasketch would get from its `hashfunc`: the upper half of our 64-bit shingle hash."""
    return (hashes >> np.uint64(32)).astype(np.uint32)


def signatures(shingles: Shingles, count: int, seed: int) -> npt.NDArray[np.uint32]:
    """The signatures of a batch, shape (permutations, documents)."""
    hashes = _fmix32(shingle_hashes32(shingles.hashes))
    minima = np.empty((count, len(shingles.starts)), np.uint32)
    space = np.empty((min(_AT_ONCE, count), len(hashes)), np.uint32)
    factors, summands = (values[:, None] for values in permutations(count, seed))
    for first in range(0, count, _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        permuted = space[: len(factors[rows])]
        np.multiply(hashes, factors[rows], out=permuted)
        np.add(permuted, summands[rows], out=permuted)
        np.minimum.reduceat(permuted, shingles.starts, axis=1, out=minima[rows])
    return minima


def band_keys(minima: npt.NDArray[np.uint32], bands: int) -> UnsignedArray:
    """One 64-bit key for each band from minima (permutations, documents); shape (bands, documents).

    Equal bands have equal keys.
    """
    rows = minima.reshape(bands, len(minima) // bands, minima.shape[1])
    keys = np.zeros((bands, minima.shape[1]), np.uint64)
    for row in range(rows.shape[1]):
        keys = (keys ^ rows[:, row]) * _BAND_MULTIPLIER
        keys ^= keys >> np.uint64(32)
    return keys


class Signer:
    """Signs texts as they come, each distinct one once: a copy costs no more than its digest."""

    def __init__(self, shingle_words: int, count: int, seed: int) -> None:
        self.lengths: list[int] = []  # of each text in UTF-8 bytes, without superfluous white space
        self._shingle_words, self._count, self._seed = shingle_words, count, seed
        self._digests: list[bytes] = []
        self._columns: list[int] = []  # of each text among the distinct ones
        self._distinct: dict[bytes, int] = {}
        self._minima = [np.empty((count, 0), np.uint32)]

    def add(self, texts: pa.StringArray) -> None:
        """Sign some texts."""
        for batch in batches(texts):
            encoded = encode(batch)
            folded = encoded.texts
            digests = [digest(text) for text in folded]
            first = len(self._distinct)
            new: list[int] = []
            for number, one in enumerate(digests):
                column = self._distinct.setdefault(one, len(self._distinct))
                self._columns.append(column)
                if column == first + len(new):
                    new.append(number)
            self.lengths += map(len, folded)
            self._digests += digests
            if new:
                shingles = shingle(encoded.only(new), self._shingle_words)
                self._minima.append(signatures(shingles, self._count, self._seed))

    def digests(self) -> tuple[UnsignedArray, UnsignedArray]:
        """Those of all texts, in two halves."""
        halves = np.frombuffer(b"".join(self._digests), ">u8").reshape(-1, 2).astype(np.uint64)
        return halves[:, 0], halves[:, 1]

    def minima(self) -> npt.NDArray[np.uint32]:
        """The signatures of all texts, shape (permutations, texts)."""
        distinct = np.concatenate(self._minima, axis=1)
        return distinct if distinct.shape[1] == len(self._columns) else distinct[:, self._columns]


def sign_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write what the whole needs to know of a shard, about 520 bytes a document.

    `index.parquet` (INDEX_SCHEMA) and `signatures.bin`, uint32 (permutations, documents). `config` holds bands, rows,
    shingle_words and seed, and for a file of an external corpus its `label`.
    """
    signer = Signer(config["shingle_words"], config["bands"] * config["rows"], config["seed"])
    tables = [INDEX_SCHEMA.empty_table().select(("id", "heldout", "bytes"))]
    for group in document_groups(inputs["documents"], config.get("label", "")):
        texts = group["text"].combine_chunks()
        signer.add(texts)
        columns = [group["id"], pc.equal(group["split"], HELDOUT), np.diff(text_borders(texts))]
        tables.append(pa.table(columns, schema=tables[0].schema).combine_chunks())
        del group, texts, columns  # before the next ones are read: they are most of what a shard costs in memory
    index = pa.concat_tables(tables)
    columns = [*index.columns, signer.lengths, *signer.digests()]
    write_table(out / "index.parquet", pa.table(columns, schema=INDEX_SCHEMA))
    signer.minima().tofile(out / "signatures.bin")
    return {"documents": len(index)}


def document_groups(path: Path, label: str) -> Iterator[pa.Table]:
    """The documents of a shard or, with a label, of a file of an external corpus: id, text and split."""
    return external_documents(path, label) if label else read_tables(path, ["id", "text", "split"])


def _fmix32(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's finaliser for 32 bits, a bijection."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))
