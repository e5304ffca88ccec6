"""What the filter took of each source and each language, and what other presets would have kept of it.

The rule that took most of a group is named with three of the documents that it dropped. Other presets are judged by the
values that the run has stored, so the lines that another preset would remove are still there, and where the run wanted
other languages, one that was found counts as certain. `python -m benchmarks.filter_keeps` measures anew.

Of a source that lost everything the stage fails, so there is no report of it: the error says the same (`explained`).

Streams by shard. Cost: a pass over the signals and the column of sources, and the thresholds of every preset.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.documents import UNDETERMINED
from storage.store.artifacts import StoredFile
from tasks.engine.about import DOCUMENTS, MadeRun
from tasks.engine.reported import Table
from tasks.filter.config import FilterConfig
from tasks.filter.languages import covered
from tasks.filter.presets import PRESETS
from tasks.filter.rules import judge
from tasks.filter.signals import SIGNALS_SCHEMA
from tasks.filter.wording import value_text
from tasks.shards.examples import documents_with, example_of
from tasks.wording import as_per_cent, clipped, figure

MOST_GROUPS = 20  # sources, and as many languages: those read most
EXAMPLES, MOST_CHARACTERS = 3, 160
MOST_EXPLAINED, TITLE_CHARACTERS = 3, 60  # sources of an error, and characters of the name of a document in it
EXAMPLES_SHOWN = "Documents that these rules dropped"
TAKEN, PRESETS_KEEP = "What took most of each source and language", "What each preset would keep"
WHY = {
    "max_curly_brackets": "C4 takes every document with a curly bracket: on a web page it shows code. Textbooks with "
    "formulas and documentation with examples hold one too; set filter.max_curly_brackets to null for them.",
    "min_language_score": "The preset wants English; filter.languages names others.",
}

Group = tuple[str, str]  # source or language, and its name


class ByGroup:
    """Counts documents by group, by the rule that dropped them and by what each preset keeps."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self.others = {name: _other(config, name) for name in PRESETS}
        self.read: Counter[Group] = Counter()
        self.dropped: dict[Group, Counter[str]] = defaultdict(Counter)
        self.lost: dict[str, dict[Group, Counter[str]]] = {name: defaultdict(Counter) for name in self.others}
        self.rows: dict[tuple[Group, str], list[tuple[int, dict[str, Any]]]] = defaultdict(list)

    def count(self, signals: pa.Table, sources: Sequence[str], shard: int) -> None:
        """Add a shard. Of each group and rule the documents with the smallest ids are examples: ids are hashes."""
        languages = signals["language"].to_pylist()
        groups: list[list[Group]] = [[("language", name) for name in languages]]
        groups += [[("source", name) for name in sources]] if sources else []
        for named in groups:
            self.read.update(named)
        verdicts = judge(self.config, signals)
        ids = signals["id"].take(verdicts.rows).to_pylist()
        values = (verdicts.rows.tolist(), ids, verdicts.rules, verdicts.values.tolist(), verdicts.thresholds.tolist())
        for row, identity, rule, value, threshold in zip(*values, strict=True):
            found = {"id": identity, "shard": shard, "value": value, "threshold": threshold}
            for named in groups:
                self.dropped[named[row]][rule] += 1
                self._keep(self.rows[named[row], rule], found)
        for name, other in self.others.items():
            judged = judge(other, _as_wanted(signals, languages, self.config, other))
            for row, rule in zip(judged.rows.tolist(), judged.rules, strict=True):
                for named in groups:
                    self.lost[name][named[row]][rule] += 1

    @staticmethod
    def _keep(heap: list[tuple[int, dict[str, Any]]], found: dict[str, Any]) -> None:
        entry = (-int(found["id"][:15], 16), found)
        if len(heap) < EXAMPLES:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)

    def shown(self) -> list[Group]:
        """The groups read most: sources, then languages."""
        return [
            group
            for kind in ("source", "language")
            for group in sorted((one for one in self.read if one[0] == kind), key=lambda one: (-self.read[one], one))[
                :MOST_GROUPS
            ]
        ]


def by_group(run: MadeRun, stage: str) -> Iterator[Table]:
    """What took most of each group, three documents that it dropped, and what each preset would keep."""
    signals, documents = run.part(stage, "signals"), run.read(stage, DOCUMENTS)
    if signals is None or not all(_measures_all(stored) for stored in signals.files[:1]):
        return
    files = documents.files if documents else ()
    counted = ByGroup(FilterConfig.model_validate(run.config(stage)))
    for number, stored in enumerate(signals.files):
        sources = pq.read_table(files[number].path, columns=["source"])["source"].to_pylist() if files else []
        counted.count(pq.read_table(stored.path), sources, number)
    yield from _tables(counted)
    if rows := tuple(row for group in counted.shown() for row in _examples(counted, group, files)):
        columns = ("source or language", "rule", "document", "found", "it begins")
        yield Table(heading=EXAMPLES_SHOWN, columns=columns, rows=rows)


def explained(config: FilterConfig, files: Sequence[StoredFile], signals: Path) -> str:
    """Of each source of which nothing is left: documents that went by the rule that took most, and what each preset
    would keep. `signals` is the folder with the signals of each shard."""
    counted = ByGroup(config)
    for number, file in enumerate(files):
        sources = pq.read_table(file.path, columns=["source"])["source"].to_pylist()
        counted.count(pq.read_table(signals / file.name), sources, number)
    lost = [group for group in counted.shown() if group[0] == "source" and _loses_all(counted, group)]
    return "\n".join(line for group in lost[:MOST_EXPLAINED] for line in _explained(counted, group, files))


def _loses_all(counted: ByGroup, group: Group) -> bool:
    return counted.dropped[group].total() == counted.read[group]


def _explained(counted: ByGroup, group: Group, files: Sequence[StoredFile]) -> Iterator[str]:
    cells = _cells(counted, group)[1:]
    for _, rule, title, note, _ in _examples(counted, group, files):
        yield f"  {rule} dropped {clipped(title, TITLE_CHARACTERS)}: {note}"
    yield f"  of {_title(group)} would be kept by {', '.join(map(' '.join, zip(PRESETS, cells, strict=True)))}"
    yield from (f"  {why}" for rule, why in WHY.items() if rule in counted.dropped[group])


def _measures_all(signals: StoredFile) -> bool:
    """Whether a shard has every signal that rules judge: an earlier version has measured fewer."""
    return set(SIGNALS_SCHEMA.names) <= set(pq.read_schema(signals.path).names)


def _tables(counted: ByGroup) -> Iterator[Table]:
    losing = [group for group in counted.shown() if counted.dropped[group]]
    rows = []
    for group in losing:
        (rule, count), lost = counted.dropped[group].most_common(1)[0], counted.dropped[group].total()
        read = counted.read[group]
        rows.append((_title(group), figure(read), figure(lost), rule, figure(count), as_per_cent(count / read)))
    if rows:
        columns = ("source or language", "read", "dropped", "rule that took most", "dropped by it", "share of all")
        yield Table(heading=TAKEN, columns=columns, rows=tuple(rows))
    if shown := counted.shown():
        named = [_cells(counted, group) for group in shown]
        reasons = [rule for rule in WHY if any(rule in cell for row in named for cell in row)]
        note = "By the values of this run: lines that another preset would remove are still there."
        note = " ".join([note, *(WHY[rule] for rule in reasons)])
        yield Table(heading=PRESETS_KEEP, columns=("source or language", *PRESETS), rows=tuple(named), note=note)


def _cells(counted: ByGroup, group: Group) -> tuple[str, ...]:
    cells = []
    for name in PRESETS:
        lost, read = counted.lost[name][group], counted.read[group]
        rule = f" ({lost.most_common(1)[0][0]})" if 2 * lost.total() > read else ""
        cells.append(as_per_cent((read - lost.total()) / read) + rule)
    return (_title(group), *cells)


def _examples(counted: ByGroup, group: Group, files: Sequence[StoredFile]) -> Iterator[tuple[str, ...]]:
    if not counted.dropped[group]:
        return
    rule = counted.dropped[group].most_common(1)[0][0]
    rows = [found for _, found in sorted(counted.rows[group, rule], key=lambda entry: -entry[0])]
    shards = sorted({row["shard"] for row in rows if row["shard"] < len(files)})
    texts = documents_with([files[shard] for shard in shards], {row["id"] for row in rows})
    for row in rows:
        for shown in example_of(texts.get(row["id"]), value_text(rule, row["value"])):
            yield _title(group), rule, shown.title, shown.note, clipped(shown.text, MOST_CHARACTERS)


def _title(group: Group) -> str:
    kind, name = group
    return f"{kind} {'not known' if (kind, name) == ('language', UNDETERMINED) else name}"


def _other(config: FilterConfig, preset: str) -> FilterConfig:
    """Another preset, with the languages that the recipe names where they are not those of its own preset."""
    named = {"languages": config.languages} if config.languages != PRESETS[config.preset]["languages"] else {}
    return FilterConfig.model_validate({"preset": preset, **named})


def _as_wanted(signals: pa.Table, languages: Sequence[str], run: FilterConfig, other: FilterConfig) -> pa.Table:
    """The signals with the score that the languages wanted by another preset would have."""
    if run.languages == other.languages:
        return signals
    accepted = covered(other.languages)
    scores = np.array([1.0 if not other.languages or name in accepted else 0.0 for name in languages], np.float64)
    place = signals.schema.get_field_index("language_score")
    return signals.set_column(place, signals.schema.field(place), pa.array(scores))
