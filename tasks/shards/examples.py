"""Counts and examples of what a stage has dropped, from its ledger and the documents that it has read.

Streams; memory holds the examples. Cost: one pass over the ledger, one over the column of ids.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.documents import read_rows
from storage.store.artifacts import Part, StoredFile
from tasks.engine.reported import Example
from tasks.wording import clipped

EXAMPLES = 2  # of each reason
EXAMPLE_CHARACTERS = 320
_COLUMNS = ["id", "text", "source", "title"]

Row = dict[str, Any]


def counts_of(part: Part | None, column: str) -> Counter[str]:
    """How often each value is in a column of a part. Streams; cost: one pass over the column."""
    counts: Counter[str] = Counter()
    for stored in part.files if part else ():
        with pq.ParquetFile(stored.path) as file:
            for batch in file.iter_batches(batch_size=65_536, columns=[column]):
                for pair in pc.value_counts(batch[column]).to_pylist():
                    counts[pair["values"]] += pair["counts"]
    return counts


def rows_by_reason(ledger: Part | None, column: str, part: str = "") -> tuple[Counter[str], dict[str, list[Row]]]:
    """How often each reason is in a ledger, and the rows with the smallest ids: ids are hashes, so a fair draw.

    Of a ledger about several parts those of `part` alone.
    """
    counts: Counter[str] = Counter()
    heaps: dict[str, list[tuple[int, int, Row]]] = {}
    for number, row in enumerate(_rows_of(ledger)):
        if part and row["part"] != part:
            continue
        reason = row[column]
        counts[reason] += 1
        heap, entry = heaps.setdefault(reason, []), (-int(row["id"][:15], 16), number, row)
        if len(heap) < EXAMPLES:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
    return counts, {reason: [row for *_, row in sorted(heap, reverse=True)] for reason, heap in heaps.items()}


def _rows_of(part: Part | None) -> Iterator[Row]:
    for file in part.files if part is not None else ():
        yield from read_rows(file.path)


def documents_with(files: Sequence[StoredFile], wanted: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Some documents by id. Reads the ids of all files, and texts only of the row groups that hold one."""
    found: dict[str, Mapping[str, Any]] = {}
    missing = pa.array(sorted(set(wanted)), pa.string())
    for stored in files:
        if len(found) == len(missing):
            break
        with pq.ParquetFile(stored.path) as file:
            for group in range(file.num_row_groups):
                mask = pc.is_in(file.read_row_group(group, ["id"])["id"], missing)
                if pc.any(mask).as_py():
                    rows = file.read_row_group(group, _COLUMNS).filter(mask).to_pylist()
                    found |= {row["id"]: row for row in rows}
    return found


def example_of(document: Mapping[str, Any] | None, note: str, twin: str = "") -> list[Example]:
    """A document as an example; none where it is gone."""
    if document is None:
        return []
    text, title = beginning(document["text"]), document["title"] or document["id"]
    return [Example(title=title, source=document["source"], text=text, note=note, twin=twin, id=document["id"])]


def beginning(text: str) -> str:
    """The beginning of a text on one line, as long as an example is."""
    read = text[: 4 * EXAMPLE_CHARACTERS]
    return clipped(read if len(read) == len(text) else f"{read}...", EXAMPLE_CHARACTERS)
