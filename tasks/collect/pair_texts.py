"""The texts of pairs as documents, for a recipe that names no text: prompt and answer, with a line end between.

Held-out text is measured in every run, and a base model has no other form for a prompt and its answer. A document has
the group and the split of its pair, so nothing that is held out is learned.
"""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from storage.documents import HELDOUT, TRAIN, Document, document_id, read_pairs, write_documents
from tasks.engine.context import Summary


def write_texts(pairs: Path, folder: Path, documents_per_shard: int) -> Summary:
    """Write the documents of the pairs in a folder; returns their figures, as those of sources of documents."""
    documents = (
        Document(document_id(pair.source, pair.group, text), text, pair.source, pair.group, pair.split)
        for path in sorted(pairs.glob("*.parquet"))
        for pair in read_pairs(path)
        for text in [f"{pair.prompt}\n{pair.answer}"]
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
