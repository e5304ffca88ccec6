"""The changed documents of one shard: rows as documents are, and beside each what it was made of (`MARKS_SCHEMA`).

What is chosen is a matter of id and seed alone, so another number of shards, or documents that come and go, change no
other document's lot. Only training documents have changed forms.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from storage.canonical import canonical_json, fraction_of
from storage.documents import SCHEMA, TRAIN, RowWriter, read_rows
from tasks.augment.changes import noisy, shuffled, with_dropout
from tasks.augment.config import AugmentConfig, Dropout, Kind, Middle, Noise, Shuffle
from tasks.augment.middle import cuts_of
from tasks.engine.context import Summary

DERIVED, MARKS = "derived.parquet", "marks.parquet"
REWRITTEN = "rewritten"  # an input: the part of the stage rewrite
MARK = "augmented"  # the name in a document's metadata: kind of change, id of the source

MARKS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "kind", "twin", "source", "form")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("first", "second", "bytes", "replaced")),
        pa.field("instead", pa.bool_(), nullable=False),
        pa.field("order", pa.float64(), nullable=False),
    ]
)

Row = dict[str, Any]


class Form(NamedTuple):
    """A text in another form; of fill-in-the-middle where it is cut, and which end comes first."""

    text: str
    first: int = 0
    second: int = 0
    form: str = ""


def derive_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write DERIVED and MARKS, a row each for each changed document, in the order of their sources. Summary: the bytes
    of the training documents."""
    section = AugmentConfig.model_validate(config)
    rewritten = {row["id"]: row["text"] for row in read_rows(inputs[REWRITTEN])} if REWRITTEN in inputs else {}
    size = 0
    with RowWriter(out / DERIVED, SCHEMA) as documents, RowWriter(out / MARKS, MARKS_SCHEMA) as marks:
        for row in read_rows(inputs["documents"]):
            if row["split"] != TRAIN:
                continue
            size += len(row["text"].encode())
            for document, mark in _derived(row, section, rewritten.get(row["id"], "")):
                documents.add(document)
                marks.add(mark)
    return {"bytes": size, "derived": documents.count}


def _derived(row: Row, section: AugmentConfig, rewritten: str) -> list[tuple[Row, Row]]:
    """The changed forms of a document, with their marks. `rewritten` is what another model has made of it, or empty.

    The bytes that they replace stand with the first in the order of those in its place: it is kept if any of them is.
    """
    derived = [pair for name in section.kinds for pair in _of_kind(name, row, section, rewritten)]
    first = min((mark for _, mark in derived if mark["instead"]), key=lambda mark: mark["order"], default=None)
    if first is not None:
        first["replaced"] = len(row["text"].encode())
    return derived


def _of_kind(name: str, row: Row, section: AugmentConfig, rewritten: str) -> Iterator[tuple[Row, Row]]:
    """Those of one kind, which share their place in the order: none where the document is not chosen."""
    kind = section.kinds[name]
    if fraction_of(f"augment {section.seed} {name}", row["id"]) >= kind.share:
        return
    draw = random.Random(f"augment {section.seed} {name} {row['id']}")
    order = fraction_of(f"augment order {section.seed} {name}", row["id"])
    for number, form in enumerate(forms(row["text"], kind, draw, rewritten)):
        identity = derived_id(name, row["id"], number)
        yield (
            row | {"id": identity, "text": form.text, "metadata": _marked(row, name)},
            {
                **{"id": identity, "kind": name, "twin": row["id"], "source": row["source"], "form": form.form},
                **{"first": form.first, "second": form.second, "bytes": len(form.text.encode())},
                **{"replaced": 0, "instead": kind.instead, "order": order},
            },
        )


def derived_id(kind: str, source: str, number: int) -> str:
    """The id of a changed document, from that of its source."""
    return hashlib.sha256(f"augmented\0{kind}\0{source}\0{number}".encode()).hexdigest()[:32]


def forms(text: str, kind: Kind, draw: random.Random, rewritten: str) -> Iterator[Form]:
    """A text as one kind of change makes it: none where nothing changes, several where it is changed in pieces."""
    if isinstance(kind, Middle):
        yield from (Form(*cut) for cut in cuts_of(text, kind, draw))
        return
    changed = rewritten
    if isinstance(kind, Noise):
        changed = noisy(text, kind, draw)
    elif isinstance(kind, Dropout):
        changed = with_dropout(text, kind, draw)
    elif isinstance(kind, Shuffle):
        changed = shuffled(text, kind, draw)
    if changed.strip() and changed != text:
        yield Form(changed)


def _marked(row: Row, kind: str) -> str:
    return canonical_json(json.loads(row["metadata"]) | {MARK: {"kind": kind, "of": row["id"]}}).decode()
