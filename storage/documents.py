"""Documents at rest: Parquet shards of one fixed schema.

A document set is a part whose files are `00000.parquet`, `00001.parquet`, ...; a row is one document:

| column | meaning |
|---|---|
| id | hexadecimal digest of source, group and contents, and of the number of a copy; unique, never a position |
| text | the document, NFC not applied, `\n` line ends |
| source | name of the source in the recipe (`files`, `docstrings`, ...) |
| url | its web address, or empty |
| title | short name for people |
| lang | ISO 639-1 code as stated by the source, or empty |
| license | licence as stated by the source, or empty |
| group | unit that must not be split between training and held-out data (package, book, site) |
| split | `train` or `heldout`, decided by the group alone |
| metadata | canonical JSON object with what else the source knows |

Supervised data are pairs (`PAIRS_SCHEMA`), in parts of their own: `pairs` (a prompt and the answer to learn),
`preferences` (`answer` was chosen, `rejected` was not) and `labels` (`prompt` is a text, `answer` its label).

| column | meaning |
|---|---|
| id, group, split, source | as a document's |
| earlier | what stands before the last question: the system line, turns, calls of tools and what came back, as text |
| prompt | the last question; empty where the result of a tool, the last of `earlier`, is what is answered |
| answer | what is learned; answers of the assistant in `earlier` are, too |
| rejected | the answer that was not chosen; empty but for preferences |

Readers stream row batches; nothing here holds a data set in memory.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from storage.canonical import canonical_json, fraction_of

TRAIN, HELDOUT = "train", "heldout"
UNDETERMINED = "und"  # ISO 639: of a text whose language nothing states or finds

SCHEMA = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("id", "text", "source", "url", "title", "lang", "license", "group", "split", "metadata")
    ]
)

PAIRS, PREFERENCES, LABELS = "pairs", "preferences", "labels"
SUPERVISED = (PAIRS, PREFERENCES, LABELS)  # the parts that hold pairs
FEEDBACK = "feedback"  # the source of pairs and preferences that are made of what users have said
SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"  # the roles of messages

_MESSAGE = pa.struct([pa.field(name, pa.string(), nullable=False) for name in ("role", "content")])
PAIRS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "group", "split", "prompt", "answer")),
        pa.field("source", pa.string(), nullable=False),
        pa.field("earlier", pa.list_(pa.field("element", _MESSAGE, nullable=False)), nullable=False),
        pa.field("rejected", pa.string(), nullable=False),
    ]
)

ROW_GROUP_CHARACTERS = 16 * 2**20  # a row group is written when it holds this much, however few its rows are


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `metadata` is a JSON-able mapping."""

    id: str
    text: str
    source: str
    group: str
    split: str
    url: str = ""
    title: str = ""
    lang: str = ""
    license: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Message(NamedTuple):
    """What one side of a conversation says; the roles are SYSTEM, USER, ASSISTANT and TOOL."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with what stands before it, its answer, perhaps one that was not chosen, and where they come from."""

    id: str
    group: str
    split: str
    prompt: str
    answer: str
    source: str
    earlier: tuple[Message, ...] = ()
    rejected: str = ""

    @classmethod
    def of(
        cls,
        prompt: str,
        answer: str,
        group: str,
        split: str,
        source: str,
        earlier: tuple[Message, ...] = (),
        rejected: str = "",
    ) -> "Pair":
        """A pair with the identity that follows from its contents and origin."""
        more = [*(text for message in earlier for text in message), rejected] if earlier or rejected else []
        identity = document_id(source, group, "\0".join([prompt, answer, *more]))
        return cls(identity, group, split, prompt, answer, source, earlier, rejected)

    @property
    def asked(self) -> tuple[Message, ...]:
        """All messages that the answer follows."""
        return self.earlier if self.earlier and not self.prompt else (*self.earlier, Message(USER, self.prompt))

    @property
    def opening(self) -> str:
        """The first question: what a conversation is known by, so that no two that begin alike are split."""
        return next((message.content for message in self.asked if message.role == USER), self.prompt)


def document_id(source: str, group: str, text: str) -> str:
    """Identity from contents and origin, never from a position: 128 bits, hexadecimal."""
    digest = hashlib.sha256()
    for piece in (source, group, text):
        digest.update(piece.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def copy_id(identity: str, number: int) -> str:
    """Identity of a document that has the same origin and contents as `number` documents before it."""
    return hashlib.sha256(f"copy\0{identity}\0{number}".encode()).hexdigest()[:32] if number else identity


def split_of(group: str, heldout_fraction: float, heldout_groups: Iterable[str] = ()) -> str:
    """`heldout` for the groups named and for a fixed share of the others, by a hash of the group's name."""
    if group in heldout_groups:
        return HELDOUT
    bucket = fraction_of("split", group)
    return HELDOUT if bucket < heldout_fraction else TRAIN


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """The one place that decides how Parquet is written; a file's end names pyarrow's version.

    A stage that reaches this has pyarrow among its `libraries`, so that its key says which version made the bytes.
    """
    recurring = [name for name in schema.names if name not in ("id", "text")]  # of the others a dictionary is a copy
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=recurring)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table to one Parquet file."""
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)


class RowWriter:
    """Writes rows to one Parquet file as they come, with equal bytes for equal rows; `count` is their number.

    Memory holds one row group: `rows_per_group` rows or `ROW_GROUP_CHARACTERS`, whichever is reached first.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows_per_group: int = 1024) -> None:
        self.count = 0
        self.characters = 0
        self._schema, self._rows_per_group = schema, rows_per_group
        self._batch: list[dict[str, Any]] = []
        self._batch_characters = 0
        self._writer = parquet_writer(path, schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        if kind is None:
            self._flush()
            self._writer.close()
        else:  # the error that ends the block is the one to raise: closing a file that is torn would raise another
            with suppress(OSError, pa.ArrowException):
                self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        """Append one row of the schema; written with its group."""
        characters = sum(map(_characters, row.values()))
        self._batch.append(row)
        self._batch_characters += characters
        self.characters += characters
        self.count += 1
        if len(self._batch) == self._rows_per_group or self._batch_characters >= ROW_GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            self._writer.write_table(pa.Table.from_pylist(self._batch, schema=self._schema))
        self._batch, self._batch_characters = [], 0


def _characters(value: Any) -> int:
    """Characters of a text, or of all texts in a list of messages."""
    if isinstance(value, str):
        return len(value)
    return sum(len(text) for one in value for text in one.values()) if isinstance(value, list) else 0


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema, rows_per_group: int = 1024) -> int:
    """Write rows to one Parquet file with equal bytes for equal rows; returns their number."""
    with RowWriter(path, schema, rows_per_group) as writer:
        for row in rows:
            writer.add(row)
    return writer.count


def read_rows(path: Path, columns: list[str] | None = None, rows_per_batch: int = 1024) -> Iterator[dict[str, Any]]:
    """Stream the rows of one Parquet file as dictionaries."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=rows_per_batch, columns=columns):
            yield from batch.to_pylist()


def count_rows(path: Path) -> int:
    """How many rows a Parquet file has; reads its end alone."""
    count: int = pq.read_metadata(path).num_rows
    return count


def read_tables(path: Path, columns: list[str] | None = None, rows: int = 256) -> Iterator[pa.Table]:
    """Stream one Parquet file as tables of so many rows at most, on one core: the least memory, and the quickest.

    Whoever drops a table before it asks for the next one holds a single one.
    """
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])
            del batch
        pa.default_memory_pool().release_unused()  # else Arrow keeps what it took for a file


def read_groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Stream the row groups of one Parquet file as tables, on one core: no row becomes a Python object."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns, use_threads=False)
            pa.default_memory_pool().release_unused()  # else Arrow keeps what the one before it took


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents to one shard; returns their number."""
    return write_rows(path, (document_row(document) for document in documents), SCHEMA)


def read_documents(path: Path) -> Iterator[Document]:
    """Stream the documents of one shard."""
    for row in read_rows(path):
        yield Document(**{**row, "metadata": json.loads(row["metadata"])})


def read_pairs(path: Path) -> Iterator[Pair]:
    """Stream the pairs of one file."""
    return map(row_pair, read_rows(path, PAIRS_SCHEMA.names))


def row_pair(row: Mapping[str, Any]) -> Pair:
    """The pair of a row of `PAIRS_SCHEMA`."""
    return Pair(**{**row, "earlier": tuple(Message(**message) for message in row["earlier"])})


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair as a row of `PAIRS_SCHEMA`."""
    row = {name: getattr(pair, name) for name in PAIRS_SCHEMA.names}
    return row | {"earlier": [message._asdict() for message in pair.earlier]}


def document_row(document: Document) -> dict[str, Any]:
    """A document as a row of `SCHEMA`."""
    row = {name: getattr(document, name) for name in SCHEMA.names}
    row["metadata"] = canonical_json(document.metadata).decode()
    return row


def label(row: Mapping[str, Any]) -> str:
    """What people know a document by: title, URL, the id of its record, or its place in a file."""
    metadata = row["metadata"]
    known = json.loads(metadata) if isinstance(metadata, str) else metadata
    place = f"{known['file']}, line {known['line']}" if "line" in known else known.get("file", "")
    name: str = row["title"] or row["url"] or known.get("id", "") or place
    return name
