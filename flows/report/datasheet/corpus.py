"""What a corpus holds in the end: documents by source, licence and language, supervised rows, and a few documents.

A pass over small columns of each shard of documents, one shard at a time; texts are read of the examples alone. Bytes
and languages of texts are those that a part `signals` has measured, whose shards are those of the documents.
"""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.report.corpus import sources_of, vocabulary_of
from flows.report.datasheet.facts import Composition, Group, Rows, Shown
from flows.report.datasheet.personal import SIGNALS, FirstIds
from flows.report.datasheet.shown import example_text, short_text
from flows.report.run_data import RunData
from storage.documents import SUPERVISED, TRAIN, UNDETERMINED
from storage.listing import and_more
from storage.store.artifacts import Part, StoredFile
from tasks.engine.about import DOCUMENTS
from tasks.engine.reported import Table
from tasks.shards.examples import documents_with
from tasks.wording import figure

EXAMPLES = 3  # of a source
MOST_SOURCES = 20  # with examples
MOST_GROUPS = 50  # licences and languages, the largest
NOT_STATED = "not stated"
_COLUMNS = ["id", "source", "license", "lang", "split"]
_GROUPS = {"source": "source", "license": "licence", "language": "language"}


class _Counts:
    """Training and held-out documents, and bytes, by name."""

    def __init__(self) -> None:
        self.documents: Counter[tuple[str, bool]] = Counter()
        self.bytes: Counter[str] = Counter()

    def groups(self, what: str, tokens: Counter[str]) -> tuple[Group, ...]:
        names = {name for name, _ in self.documents}
        size = {name: self.documents[name, True] + self.documents[name, False] for name in names}
        ranked = sorted(names, key=lambda name: (-size[name], name))
        groups = [(name, [name]) for name in ranked[:MOST_GROUPS]]
        if rest := ranked[MOST_GROUPS:]:
            groups.append((and_more(len(rest), f"{what}s"), rest))
        return tuple(
            Group(
                name=short_text(title),
                training=sum(self.documents[name, True] for name in inside),
                heldout=sum(self.documents[name, False] for name in inside),
                bytes=sum(self.bytes[name] for name in inside),
                tokens=sum(tokens[name] for name in inside),
            )
            for title, inside in groups
        )


def composition(data: RunData, corpus: str) -> Composition:
    """The corpus of a stage; of documents that are gone nothing is known."""
    documents, signals = data.part(corpus, DOCUMENTS), data.part(corpus, SIGNALS)
    counts = {name: _Counts() for name in _GROUPS}
    first: dict[str, FirstIds] = {}
    places: dict[str, int] = {}
    files = documents.files if documents else ()
    measured = {file.name: file for file in signals.files} if signals else {}
    for number, file in enumerate(files):
        table = _with_measures(pq.read_table(file.path, columns=_COLUMNS), measured.get(file.name))
        _count(counts, table)
        for source, identity in zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True):
            if source in first or len(first) < MOST_SOURCES:
                one = first.setdefault(source, FirstIds(EXAMPLES))
                one.add(identity)
                if identity in one.ids:
                    places[identity] = number
        places = {
            identity: place for identity, place in places.items() if any(identity in f.ids for f in first.values())
        }
    tokens = Counter({source.name: source.tokens for source in sources_of(data).sources})
    groups = {
        name: one.groups(_GROUPS[name], tokens if name == "source" else Counter()) for name, one in counts.items()
    }
    return Composition(
        documents=sum(counts["source"].documents.values()),
        training=sum(count for (_, train), count in counts["source"].documents.items() if train),
        heldout=sum(count for (_, train), count in counts["source"].documents.items() if not train),
        shards=len(files),
        sources=groups["source"],
        licenses=groups["license"],
        languages=groups["language"],
        rows=tuple(_supervised(data, corpus)),
        examples=tuple(_examples(files, first, places)),
    )


def tokenized(data: RunData) -> Iterator[Table]:
    """How many bytes a token of the run holds, by source and by stated language; nothing where there are no tokens."""
    found, vocabulary = sources_of(data), vocabulary_of(data)
    unused = ""
    if vocabulary and vocabulary.unused is not None:
        unused = f"{figure(vocabulary.unused)} of {figure(vocabulary.size)} tokens are in no training text."
    for what, owners, note in (("source", found.sources, unused), ("language", found.languages, "")):
        ranked = sorted((one for one in owners if one.tokens), key=lambda one: (-one.tokens, one.name))
        if rest := ranked[MOST_GROUPS:]:
            note = f"{and_more(len(rest), what + 's')}. {note}".strip()
        if ranked:
            yield Table(
                heading=f"Tokens by {what}",
                columns=(what, "bytes", "tokens", "bytes per token"),
                rows=tuple(
                    (one.name, figure(one.bytes), figure(one.tokens), figure(one.ratio)) for one in ranked[:MOST_GROUPS]
                ),
                note=note,
            )


def _with_measures(documents: pa.Table, measured: StoredFile | None) -> pa.Table:
    """The columns `language` and `bytes` beside a shard's documents; 0 bytes where nothing has measured them."""
    stated = documents["lang"].to_pylist()
    found: list[str | None] = [None] * len(stated)
    sizes: list[int | None] = [None] * len(stated)
    if measured is not None:
        signals = pq.read_table(measured.path, columns=["id", "language", "bytes"])
        rows = pc.index_in(documents["id"].combine_chunks(), value_set=signals["id"].combine_chunks())
        found, sizes = (signals[name].take(rows).to_pylist() for name in ("language", "bytes"))
    languages = [say or _known(one) for say, one in zip(stated, found, strict=True)]
    documents = documents.append_column("language", pa.array(languages, pa.string()))
    return documents.append_column("bytes", pa.array([size or 0 for size in sizes], pa.int64()))


def _known(language: str | None) -> str:
    return "not known" if language in (None, "", UNDETERMINED) else str(language)


def _count(counts: dict[str, _Counts], table: pa.Table) -> None:
    splits = table["split"].to_pylist()
    sizes = table["bytes"].to_pylist()
    for column, one in counts.items():
        for name, split, size in zip(table[column].to_pylist(), splits, sizes, strict=True):
            one.documents[name or NOT_STATED, split == TRAIN] += 1
            one.bytes[name or NOT_STATED] += size


def _supervised(data: RunData, corpus: str) -> Iterator[Rows]:
    for name in SUPERVISED:
        part = data.part(corpus, name)
        counts: Counter[tuple[str, bool]] = Counter()
        for source, split in _columns(part, ["source", "split"]) if part else ():
            counts[source, split == TRAIN] += 1
        for source in sorted({source for source, _ in counts}):
            training, heldout = counts[source, True], counts[source, False]
            yield Rows(part=name, source=short_text(source), training=training, heldout=heldout)


def _columns(part: Part, names: list[str]) -> Iterator[tuple[str, ...]]:
    for stored in part.files:
        with pq.ParquetFile(stored.path) as file:
            for batch in file.iter_batches(65_536, columns=names):
                yield from zip(*(batch[name].to_pylist() for name in names), strict=True)


def _examples(files: tuple[StoredFile, ...], first: dict[str, FirstIds], places: dict[str, int]) -> Iterator[Shown]:
    """The documents with the smallest ids of each source; one row group of texts is in memory at a time."""
    shards = [files[number] for number in sorted(set(places.values()))]
    texts = documents_with(shards, places)
    for source in sorted(first):
        for identity in first[source].ids:
            row = texts[identity]
            title = short_text(row["title"] or identity)
            yield Shown(id=identity, title=title, source=short_text(source), text=example_text(row["text"]))
