"""Copy a document shard without some of its rows, column by column: no row becomes a Python object."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import SCHEMA, parquet_writer


def drop_rows(source: Path, target: Path, dropped: Collection[int], texts: Mapping[int, str] | None = None) -> int:
    """Write the rows of `source` that are not `dropped`, with new `texts` by row number; returns their number.

    Row groups stay as they are, so that equal input and equal decisions give equal bytes.
    """
    first = written = 0
    with pq.ParquetFile(source) as file, parquet_writer(target, SCHEMA) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            numbers = np.arange(first, first + len(table))
            first += len(table)
            if texts:
                old = table["text"].to_pylist()
                new = [texts.get(number, text) for number, text in zip(numbers.tolist(), old, strict=True)]
                table = table.set_column(
                    SCHEMA.get_field_index("text"), SCHEMA.field("text"), pa.array(new, pa.string())
                )
            table = table.filter(pa.array(~np.isin(numbers, list(dropped))))
            if len(table):
                writer.write_table(table)
            written += len(table)
    return written
