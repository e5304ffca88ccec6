"""One document in the parts that stages have left, shard by shard."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.store.artifacts import Part


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document is in a document set: file number, row, and its number among those of its split."""

    shard: int
    row: int
    number: int


def place_of(documents: Part, identity: str) -> Place | None:
    """Where the document of that id lies; None where it is not."""
    for shard, table in enumerate(tables_of(documents, ["id", "split"])):
        row = pc.index(table["id"], identity).as_py()
        if row >= 0:
            splits = table["split"].slice(0, row).to_pylist()
            return Place(shard, row, splits.count(table["split"][row].as_py()))
    return None


def document_at(documents: Part, place: Place, identity: str) -> dict[str, Any]:
    """The whole row of a document."""
    table = pq.read_table(documents.files[place.shard].path, filters=pc.field("id") == identity, use_threads=False)
    row: dict[str, Any] = table.slice(0, 1).to_pylist()[0]
    return row


def tables_of(part: Part, columns: list[str] | None) -> Iterator[pa.Table]:
    """The files of a part, one at a time; all columns for None."""
    for file in part.files:
        yield pq.read_table(file.path, columns=columns, use_threads=False)


def rows_called(part: Part, wanted: str, columns: Sequence[str], *, whole: bool) -> Iterator[dict[str, Any]]:
    """The rows of a part of which one of some columns is what is wanted or, without `whole`, has it inside."""
    matches = pc.equal if whole else pc.match_substring
    for table in tables_of(part, None):
        found = [matches(table[name], wanted) for name in columns]
        yield from table.filter(reduce(pc.or_, found)).to_pylist()


def rows_where(part: Part, column: str, value: str) -> list[dict[str, Any]]:
    """The rows of a part in which a column has a value."""
    return [
        row for file in part.files for row in pq.read_table(file.path, filters=pc.field(column) == value).to_pylist()
    ]
