"""Documents that a shard shares with one of an earlier build: what was worked out for them is reused.

A shard is what is cached, but new text changes old shards too: a copy in an old shard goes because a new document is
longer or held out, and a file that sorts first moves what follows it. Most documents stay. A stage whose work on one
document depends on its text alone keeps the texts' digests beside its results and names what a shard is near to
(`Job.near`); its function finds that shard's files as inputs `reused/NAME` and works on the texts that are new. Equal
input gives equal bytes with and without.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.store.artifacts import StoredFile

DIGEST_BYTES = 16
DIGESTS = "texts.npy"


def nearness(shard: StoredFile) -> tuple[str, str]:
    """The smallest and the largest document id of a shard: a MinHash of two values (Broder 1997).

    Ids are digests, so two shards agree in either with a chance that is their share of common documents.
    """
    ids = pc.min_max(pq.read_table(shard.path, columns=["id"])["id"]).as_py()
    return ids["min"] or "", ids["max"] or ""


def text_digest(text: str) -> bytes:
    """The digest, 16 bytes, of a text."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def write_digests(folder: Path, digests: Sequence[bytes]) -> None:
    """Keep the digests of a shard's texts, in the order of its results."""
    array = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    np.save(folder / DIGESTS, array, allow_pickle=False)


def read_digests(path: Path) -> list[bytes]:
    """The digests that `write_digests` has kept, 16 bytes each."""
    return [row.tobytes() for row in np.load(path, allow_pickle=False)]
