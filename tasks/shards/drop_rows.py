"""Copy a document shard without some of its rows, column by column: no row becomes a Python object."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.documents import SCHEMA, parquet_writer, read_groups


def drop_rows(source: Path, target: Path, dropped: Collection[int], texts: Mapping[int, str] | None = None) -> int:
    """Write the rows of `source` that are not `dropped`, with new `texts` by row number; returns their number.

    Row groups stay as they are, so that equal input and equal decisions give equal bytes.
    """
    first = written = 0
    gone = np.array(sorted(dropped), np.int64)
    with parquet_writer(target, SCHEMA) as writer:
        for table in read_groups(source):
            stays = np.ones(len(table), bool)
            stays[gone[np.searchsorted(gone, first) : np.searchsorted(gone, first + len(table))] - first] = False
            if texts:
                old = enumerate(table["text"].to_pylist(), first)
                new = pa.array([texts.get(number, text) for number, text in old], pa.string())
                table = table.set_column(SCHEMA.get_field_index("text"), SCHEMA.field("text"), new)
            first += len(table)
            table = table.filter(pa.array(stays))
            if len(table):
                writer.write_table(table)
            written += len(table)
    return written
