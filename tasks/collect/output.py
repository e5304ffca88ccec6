"""What every job of the collect stage leaves: document shards, pairs, a quarantine, and the same counts.

```
documents-00000.parquet ...   at most `documents_per_shard` documents each, none if there is none
pairs.parquet ...             PAIRS_SCHEMA: pairs, preferences, labels and answers that were not liked, where there are
quarantine.parquet            QUARANTINE_SCHEMA: file, line, reason and beginning of each record that was set aside
dropped.parquet               DROPPED_SCHEMA: file, line, name and rule of each record that a rule left out (dropped.py)
```
"""

from collections import Counter
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field

from storage.documents import (
    HELDOUT,
    PAIRS_SCHEMA,
    SCHEMA,
    TRAIN,
    Document,
    Pair,
    RowWriter,
    copy_id,
    document_row,
    pair_row,
    split_of,
)
from tasks.collect.archives import LeftOut
from tasks.collect.discover import where_in
from tasks.collect.dropped import DroppedLedger
from tasks.collect.records import BadRecord
from tasks.collect.said import BadKinds
from tasks.engine.config import StageConfig
from tasks.engine.context import Summary

SHARD_CHARACTERS = 64 * 2**20  # a shard of long documents ends here, however few they are
SITE_LINES = "site_lines"  # figure: lines that repeat across a site, removed
DROPPED = "dropped_"  # before the reason, in figures
ENCODING = "encoding_"  # before an encoding that was found out, in figures

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("excerpt", pa.string(), nullable=False),
    ]
)


class Splits(StageConfig):
    """What decides a group's split: the part of the collect section that every job needs."""

    heldout_fraction: float = Field(description="Share of the groups that is held out of training.")
    heldout_groups: tuple[str, ...] = Field(description="Groups that are held out in any case.")

    def of(self, group: str, file: str = "") -> str:
        """`train` or `heldout`; `file` is the name of the file that holds a record without a group."""
        return HELDOUT if file in self.heldout_groups else split_of(group, self.heldout_fraction, self.heldout_groups)


class JobOutput:
    """Writes a job's files as it goes and counts; memory holds one row group of each, and 80 bytes a document.

    Documents of one origin and one text (a line that occurs twice in a file) are numbered as they come, so that each
    has an id of its own and a ledger can say which was dropped for which.
    """

    def __init__(self, out: Path, source: str, documents_per_shard: int) -> None:
        self._out, self._source, self._documents_per_shard = out, source, documents_per_shard
        self._shards = 0
        self._documents: RowWriter | None = None
        self._pairs: dict[str, RowWriter] = {}
        self._quarantine = RowWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA)
        self._dropped = DroppedLedger(out, source)
        self._bad = BadKinds()
        self._ids: set[bytes] = set()
        self._copies: Counter[str] = Counter()
        self._lost: list[str] = []
        self._missing_fields: set[str] = set()
        self.found: Counter[str] = Counter()  # what was found out of files (readers.py), for the stage's notices
        self.left_out = LeftOut(note=self._dropped.add)  # of archives
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_shard(*error)
        for writer in self._pairs.values():
            writer.__exit__(*error)
        self._quarantine.__exit__(*error)
        self._dropped.__exit__(*error)

    def document(self, document: Document) -> None:
        """Write a document to the shard under way; a full one is closed first."""
        full = self._documents and (
            self._documents.count >= self._documents_per_shard or self._documents.characters >= SHARD_CHARACTERS
        )
        if full:
            self._close_shard()
        if self._documents is None:
            self._documents = RowWriter(self._out / f"documents-{self._shards:05d}.parquet", SCHEMA)
            self._shards += 1
        self._documents.add(document_row(document) | {"id": self._unique(document.id)})
        self.counts["kept"] += 1
        self.counts["bytes"] += len(document.text.encode())
        self.counts["train" if document.split == TRAIN else "heldout"] += 1

    def pair(self, pair: Pair, part: str = "pairs") -> None:
        """Write a pair to the file of a part; repeats are found later (pairs.py)."""
        if part not in self._pairs:
            self._pairs[part] = RowWriter(self._out / f"{part}.parquet", PAIRS_SCHEMA)
        self._pairs[part].add(pair_row(pair))
        self.counts[part] += 1

    def empty(self, file: str, line: int, name: str = "") -> None:
        """List a record without text, such as a blank row."""
        self.counts["dropped"] += 1
        self.counts["empty"] += 1
        self._dropped.add("empty", file, line, name)

    def drop(self, reason: str, file: str, line: int, name: str = "") -> None:
        """List a record that a rule leaves out, and count it as `dropped_REASON`; `name` is its address or title."""
        self.counts["dropped"] += 1
        self.counts[f"{DROPPED}{reason}"] += 1
        self._dropped.add(reason, file, line, name)

    def without_prose(self, file: str) -> None:
        """List a module that has no prose."""
        self.counts["dropped"] += 1
        self._dropped.add("without_prose", file)

    def listed(self, file: str, record: BadRecord) -> None:
        """List a record of a list of files that has no text itself."""
        self.counts["dropped"] += 1
        self._dropped.add("no_text_in_a_list_of_files", file, record.line)
        self.counts["listed"] += 1
        self.counts["without_field"] += 1
        self._missing_fields.update(record.fields)

    def bad(self, file: str, record: BadRecord) -> None:
        """Write a record that cannot be used to the quarantine, with the reason."""
        self._quarantine.add(
            {
                "source": self._source,
                "file": file,
                "line": record.line,
                "reason": record.reason,
                "excerpt": record.excerpt,
            }
        )
        self.counts["quarantined"] += 1
        if record.fields:
            self.counts["without_field"] += 1
            self._missing_fields.update(record.fields)
        where = where_in(file, record.line)
        self._bad.add(where, record.reason)
        if record.rest_lost:
            self._lost.append(f"{where}: {record.reason}")

    def summary(self) -> Summary:
        """The counts, and what a message about bad input needs."""
        counted = ("read", "kept", "dropped", "quarantined", "empty", "bytes", "train", "heldout", "pairs")
        names = (*counted, "repaired", "listed", "without_field")
        return {
            **{name: self.counts[name] for name in names},
            **{name: count for name, count in sorted(self.counts.items()) if name not in names},
            "bad": self._bad.listed(),
            "lost": self._lost,
            "left_out": self.left_out.summary(),
            "unlisted": self._dropped.unlisted,
            "found": dict(sorted(self.found.items())),
            "fields": sorted(self._missing_fields)[:20],
        }

    def _unique(self, identity: str) -> str:
        known = bytes.fromhex(identity)
        if known in self._ids:
            self._copies[identity] += 1
        self._ids.add(known)
        return copy_id(identity, self._copies[identity]) if self._copies else identity

    def _close_shard(self, *error: object) -> None:
        if self._documents is not None:
            self._documents.__exit__(*error)
        self._documents = None


def number_or_text(value: Any) -> str | None:
    """A group or id as text: strings and whole numbers are names, everything else is not."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
