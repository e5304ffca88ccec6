"""What deduplication knows of all documents at once: some 80 bytes of each, and the signatures on disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import DataError
from storage.store.artifacts import StoredFile
from tasks.deduplicate.against import ExternalFile
from tasks.deduplicate.clusters import Numbers
from tasks.deduplicate.shingles import UnsignedArray
from tasks.deduplicate.signatures import INDEX_SCHEMA, band_keys
from tasks.engine.context import JobResult


@dataclass(frozen=True)
class Corpus:
    """The documents by number, shard after shard and row after row: first those of external corpora, then our own."""

    external: Sequence[ExternalFile]
    files: Sequence[StoredFile]  # our own shards
    signed: Sequence[JobResult]  # of all
    first_numbers: Numbers  # of each shard, and the number of documents
    heldout: npt.NDArray[np.bool_]
    sizes: Numbers  # UTF-8 bytes of the text
    lengths: Numbers  # the same without superfluous white space: by these the longest is chosen
    digests: tuple[UnsignedArray, UnsignedArray]
    ids: pa.ChunkedArray

    def __len__(self) -> int:
        return int(self.first_numbers[-1])

    @property
    def first_own(self) -> int:
        """The number of our first document, which is that of external ones."""
        return int(self.first_numbers[len(self.external)])

    def shard_of(self, numbers: Numbers) -> Numbers:
        """The shard of each document; those of external corpora come first."""
        return np.searchsorted(self.first_numbers, numbers, side="right") - 1

    def by_shard(self, numbers: Numbers) -> list[Numbers]:
        """Of some documents (ascending numbers) the rows in each shard."""
        borders = np.searchsorted(numbers, self.first_numbers)
        firsts = self.first_numbers.tolist()
        return [numbers[begin:end] - first for begin, end, first in zip(borders, borders[1:], firsts, strict=False)]

    def bands(self, bands: int, rows: int, numbers: Numbers) -> Iterator[UnsignedArray]:
        """The keys of some documents in each band."""
        for band in range(bands):
            keys = [band_keys(minima, 1)[0] for minima in self._minima(band, rows)]
            yield np.concatenate(keys)[numbers]

    def estimates(self, bands: int, rows: int, one: Numbers, other: Numbers) -> npt.NDArray[np.float64]:
        """The share of equal values in the signatures of two documents each."""
        equal = np.zeros(len(one), np.int64)
        for band in range(bands):
            minima = np.concatenate(list(self._minima(band, rows)), axis=1)
            equal += np.count_nonzero(minima[:, one] == minima[:, other], axis=0)
        return equal / (bands * rows)

    def _minima(self, band: int, rows: int) -> Iterator[npt.NDArray[np.uint32]]:
        """A band of the signatures, shard by shard, shape (rows, documents): 32 bytes a document, not 448."""
        for result, documents in zip(self.signed, np.diff(self.first_numbers).tolist(), strict=True):
            size = rows * documents
            minima = np.fromfile(result.files["signatures.bin"].path, np.uint32, size, offset=4 * band * size)
            yield minima.reshape(rows, documents)


def load(external: Sequence[ExternalFile], files: Sequence[StoredFile], signed: Sequence[JobResult]) -> Corpus:
    """The corpus from what signing has left of external files and our own; DataError where we have no document."""
    tables = [pq.read_table(result.files["index.parquet"].path, use_threads=False) for result in signed]
    first_numbers = np.cumsum([0, *(len(table) for table in tables)])
    if first_numbers[-1] == first_numbers[len(external)]:
        raise DataError("deduplicate: the stage collect has left no document; name a source that holds text")
    table = pa.concat_tables(tables)
    columns = {name: table[name].to_numpy() for name in INDEX_SCHEMA.names if name != "id"}
    return Corpus(
        external,
        files,
        signed,
        first_numbers,
        columns["heldout"],
        sizes=columns["bytes"],
        lengths=columns["folded_bytes"],
        digests=(columns["digest_high"], columns["digest_low"]),
        ids=table["id"],
    )
