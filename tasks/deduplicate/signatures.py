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

from storage.documents import HELDOUT, read_groups, write_table
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


def sign_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write what the whole needs to know of a shard, about 520 bytes a document.

    `index.parquet` (INDEX_SCHEMA) and `signatures.bin`, uint32 (permutations, documents). `config` holds bands, rows,
    shingle_words and seed, and for a file of an external corpus its `label`.
    """
    count = config["bands"] * config["rows"]
    tables = [INDEX_SCHEMA.empty_table()]
    minima = [np.empty((count, 0), np.uint32)]
    for group in document_groups(inputs["documents"], config.get("label", "")):
        texts = group["text"].combine_chunks()
        lengths, digests = [], []
        for batch in batches(texts):
            encoded = encode(batch)
            minima.append(signatures(shingle(encoded, config["shingle_words"]), count, config["seed"]))
            for folded in encoded.texts:
                lengths.append(len(folded))
                digests.append(digest(folded))
        halves = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64)
        heldout = pc.equal(group["split"], HELDOUT)
        sizes = np.diff(text_borders(texts))
        columns = [group["id"], heldout, sizes, lengths, halves[:, 0], halves[:, 1]]
        tables.append(pa.table(columns, schema=INDEX_SCHEMA))
    index = pa.concat_tables(tables)
    write_table(out / "index.parquet", index)
    np.concatenate(minima, axis=1).tofile(out / "signatures.bin")
    return {"documents": len(index)}


def document_groups(path: Path, label: str) -> Iterator[pa.Table]:
    """The documents of a shard or, with a label, of a file of an external corpus: id, text and split."""
    return external_documents(path, label) if label else read_groups(path, ["id", "text", "split"])


def _fmix32(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's finaliser for 32 bits, a bijection."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))
