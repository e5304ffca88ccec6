"""What the report shows of decontamination: of each benchmark the items that were found and what became of the texts,
where the first of them were found, and the documents dropped with examples.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from storage.documents import read_rows
from storage.store.artifacts import Part
from tasks.decontaminate.stage import CLEAN, COMMON, CUT, DIRTY, DROPPED, FOUND, SHORT
from tasks.engine.about import DOCUMENTS, LEDGER, MadeRun
from tasks.engine.reported import Example, Reason, Section, Table
from tasks.shards.examples import EXAMPLES, documents_with, example_of
from tasks.wording import as_per_cent, figure

MOST_ROWS = 40  # of the table of places
STATES = "What benchmarks ask, found in the data"
PLACES = "Where it was found"
COLUMNS = (
    *("benchmark", "items", "found", "share", "not found", "too short", "phrases"),
    *("documents with an item", "cut", "dropped", "pairs and labels dropped"),
)

Row = dict[str, Any]


def report(run: MadeRun, stage: str) -> Section:
    """Cost: two passes over the ledger, and the shards that hold an example."""
    found, ledger = run.part(stage, FOUND), run.part(stage, LEDGER)
    if found is None or ledger is None:
        return Section()
    tables = [Table(heading=STATES, columns=COLUMNS, rows=tuple(_benchmarks(found, ledger)))]
    places = tuple(_places(ledger))
    if places:
        columns = ("text", "part", "source", "benchmark", "item", "share of it", "what was done")
        note = f"The first {MOST_ROWS}; llmill cat RUN/{stage}/{LEDGER} has all." if len(places) == MOST_ROWS else ""
        tables.append(Table(heading=PLACES, columns=columns, rows=places, note=note))
    return Section(reasons=tuple(_reasons(run, stage, ledger)), tables=tuple(tables))


def _benchmarks(found: Part, ledger: Part) -> Iterator[tuple[str, ...]]:
    states: dict[str, Counter[str]] = {}
    for row in _rows(found):
        states.setdefault(row["benchmark"], Counter())[row["state"]] += 1
    texts: dict[str, dict[str, set[str]]] = {}
    for row in _rows(ledger):
        kinds = texts.setdefault(row["benchmark"], {})
        if row["part"] == DOCUMENTS:
            kinds.setdefault(DOCUMENTS, set()).add(row["id"])
            kinds.setdefault(row["action"], set()).add(row["id"])
        elif row["action"] == DROPPED:
            kinds.setdefault("others", set()).add(row["part"] + row["id"])
    for benchmark, counts in states.items():
        kinds = texts.get(benchmark, {})
        shown = (counts.total(), counts[DIRTY])
        rest = (*(counts[state] for state in (CLEAN, SHORT, COMMON)), *(len(kinds.get(kind, ())) for kind in _KINDS))
        yield (benchmark, *map(figure, shown), as_per_cent(counts[DIRTY] / counts.total()), *map(figure, rest))


_KINDS = (DOCUMENTS, CUT, DROPPED, "others")


def _places(ledger: Part) -> Iterator[tuple[str, ...]]:
    for number, row in enumerate(_rows(ledger)):
        if number == MOST_ROWS:
            return
        texts = (row["id"], row["part"], row["source"], row["benchmark"], row["item"])
        yield (*texts, as_per_cent(row["share"]), row["action"])


def _reasons(run: MadeRun, stage: str, ledger: Part) -> Iterator[Reason]:
    documents = run.read(stage, DOCUMENTS)
    files = documents.files if documents else ()
    gone: dict[str, dict[str, Row]] = {}
    for row in _rows(ledger):
        if row["part"] == DOCUMENTS and row["action"] == DROPPED:
            gone.setdefault(row["benchmark"], {}).setdefault(row["id"], row)
    for benchmark, rows in gone.items():
        picked = [rows[identity] for identity in sorted(rows)[:EXAMPLES]]
        shards = sorted({row["shard"] for row in picked})
        texts = documents_with([files[shard] for shard in shards if shard < len(files)], {row["id"] for row in picked})
        examples: list[Example] = []
        for row in picked:
            note = f"{as_per_cent(row['share'])} of item {row['item']}"
            examples += example_of(texts.get(row["id"]), note)
        what = f"Holds items of {benchmark}, too many to cut or all there is"
        yield Reason(name=benchmark, what=what, count=len(rows), examples=tuple(examples))


def _rows(part: Part) -> Iterator[Row]:
    for file in part.files:
        yield from read_rows(file.path)
