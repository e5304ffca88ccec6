"""The texts of pairs as documents, for a recipe that names no text: prompt and answer, with a line end between; where
there are no pairs, of preferences, and else the texts that have labels.

Held-out text is measured in every run, and a base model has no other form for a prompt and its answer. A document has
the group and the split of its pair, so nothing that is held out is learned.
"""

from collections.abc import Iterator, Mapping
from itertools import count, islice
from pathlib import Path

from storage.documents import (
    HELDOUT,
    LABELS,
    PAIRS,
    SUPERVISED,
    TRAIN,
    Document,
    Pair,
    document_id,
    read_pairs,
    write_documents,
)
from tasks.engine.context import Summary


def write_texts(parts: Mapping[str, Path], folder: Path, documents_per_shard: int) -> Summary:
    """Write the documents of the first of the parts (PAIRS, PREFERENCES, LABELS) that holds anything; returns their
    figures, as those of sources of documents."""
    filled = (name for name in SUPERVISED if next(_pairs(parts[name]), None) is not None)
    chosen = next(filled, PAIRS)
    documents = (
        Document(document_id(pair.source, pair.group, text), text, pair.source, pair.group, pair.split)
        for pair in _pairs(parts[chosen])
        for text in [pair.prompt if chosen == LABELS else f"{pair.prompt}\n{pair.answer}"]
    )
    figures = dict.fromkeys((TRAIN, HELDOUT, "bytes"), 0)

    def counted() -> Iterator[Document]:
        for document in documents:
            figures[document.split] += 1
            figures["bytes"] += len(document.text.encode())
            yield document

    rows, shards = counted(), 0
    for shard in count():
        path = folder / f"{shard:05d}.parquet"
        written = write_documents(path, islice(rows, documents_per_shard))
        if not written and shard:
            path.unlink()
        shards += bool(written)
        if written < documents_per_shard:
            break
    made = figures[TRAIN] + figures[HELDOUT]
    return {
        "read": made,
        "kept": made,
        "bytes": figures["bytes"],
        "documents_train": figures[TRAIN],
        "documents_heldout": figures[HELDOUT],
        "shards": shards,
    }


def _pairs(folder: Path) -> Iterator[Pair]:
    for path in sorted(folder.glob("*.parquet")):
        yield from read_pairs(path)
