"""The ledger of what a rule has left out of a job: which record, by which rule, so that `llmill explain` can say it.

`dropped.parquet`: DROPPED_SCHEMA, in the order of reading. Each rule lists its first `MOST_LISTED` records of a job, as
a dump has millions of redirects; `unlisted` counts the others. Cost: 2 µs a record, and about 10 bytes on disk.
"""

from collections import Counter
from pathlib import Path
from typing import Self

import pyarrow as pa

from storage.documents import RowWriter

MOST_LISTED = 100_000  # records of one rule in one job

DROPPED_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # its address or title, where it has one
        pa.field("rule", pa.string(), nullable=False),
    ]
)


class DroppedLedger:
    """Writes the ledger of one job; a context manager."""

    def __init__(self, out: Path, source: str) -> None:
        self._rows = RowWriter(out / "dropped.parquet", DROPPED_SCHEMA)
        self._source = source
        self._listed: Counter[str] = Counter()
        self.unlisted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.__exit__(*error)

    def add(self, rule: str, file: str, line: int = 1, name: str = "") -> None:
        """List a record; only count it where its rule has listed enough."""
        if self._listed[rule] >= MOST_LISTED:
            self.unlisted += 1
            return
        self._listed[rule] += 1
        file, name = (text.encode("utf-8", "backslashreplace").decode() for text in (file, name))
        self._rows.add({"source": self._source, "file": file, "line": line, "name": name, "rule": rule})
