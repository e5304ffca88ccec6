"""External corpora: documents outside the store that those of a run are compared with, and that are never written.

A corpus is one Parquet file or a folder of them: the documents of an earlier run, or any file with a text column
`text` and, where there is one, `id`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import TRAIN
from storage.errors import DataError
from storage.source_hashes import hash_files
from storage.store.artifacts import StoredFile
from tasks.collect.discover import discover
from tasks.deduplicate.config import DeduplicateConfig

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file of an external corpus; `label` is the corpus and the place of the file in it."""

    corpus: str
    label: str
    file: StoredFile


def observe_against(config: DeduplicateConfig) -> dict[str, str]:
    """`against/corpus/relative file` -> SHA-256."""
    return {f"against/{one.label}": one.file.digest for one in external_files(config)}


def external_files(config: DeduplicateConfig) -> Sequence[ExternalFile]:
    """The files of all external corpora, in order; DataError where a path leads to none."""
    return [
        ExternalFile(corpus.name, f"{corpus.name}/{file.name}", file)
        for number, corpus in enumerate(config.against)
        for file in hash_files(discover(corpus.path, f"deduplicate.against[{number}].path", ("parquet",)))
    ]


def external_documents(path: Path, label: str) -> Iterator[pa.Table]:
    """The documents of an external file in small tables of id, text and split; DataError where there is no text.

    A document without an id is known by its file and row.
    """
    first = 0
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in ("id", "text") if name in file.schema_arrow.names]
            if "text" not in names:
                raise DataError(
                    f"deduplicate.against: {label} has no column text, but {', '.join(file.schema_arrow.names)}. "
                    "Give documents that an earlier run has written, or rename the column."
                )
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=names, use_threads=False):
                rows = range(first, first + len(batch))
                ids = batch["id"].cast(pa.string()) if "id" in names else [f"{label}:{row}" for row in rows]
                texts = batch["text"].cast(pa.string()).fill_null("")
                yield pa.table({"id": ids, "text": texts, "split": [TRAIN] * len(batch)})
                first += len(batch)
    except pa.ArrowException as error:
        raise DataError(
            f"deduplicate.against: {label} cannot be read as documents: {error}. "
            "Fetch or write it again, or leave it out."
        ) from error
