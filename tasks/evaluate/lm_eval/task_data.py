"""The data of local task files, in memory: JSON lines, JSON, CSV, TSV, Parquet, plain text.

`datasets` would write an Arrow copy of each file into a cache, with locks, and look it up again by a name that does
not know the contents. Here the rows are read each time, each with its file and line, so that an error can say where.
"""

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from tasks.collect.discover import kind_of
from tasks.collect.readers import read_records
from tasks.collect.records import BadRecord, Reading

if TYPE_CHECKING:
    from datasets import Dataset

MAX_DATA_BYTES = 512 * 2**20  # of one task: its rows are held in memory
MAX_ROW_BYTES = 8 * 2**20

Row = dict[str, Any]
PROMPT_FIELDS = ("doc_to_text", "doc_to_target", "doc_to_choice")


class Rows(list[Row]):
    """Rows with the little of a `datasets.Dataset` that lm-eval asks of one; a data set takes 0.1 ms to give a row."""

    @property
    def features(self) -> Row:
        return self[0]


@dataclass
class LocalData:
    """The files of a task by split, and after `load` the file and line of every row."""

    files: Mapping[str, Sequence[Path]]
    places: dict[str, list[str]] = field(default_factory=dict)

    def load(self, task: Mapping[str, Any]) -> "dict[str, Rows | Dataset]":
        """The splits as lm-eval wants them; as a data set where the task's own code is to work on one.

        DataError where a row lacks a field that the task's prompt is made of.
        """
        size = sum(path.stat().st_size for paths in self.files.values() for path in paths)
        if size > MAX_DATA_BYTES:
            raise DataError(f"{next(iter(self.files.values()))[0]}: {size:,} bytes of data; {MAX_DATA_BYTES:,} at most")
        splits: dict[str, Rows | Dataset] = {}
        for split, paths in self.files.items():
            located = [(f"{path}, line {line}", row) for path in paths for line, row in _rows(path)]
            if not located:
                raise DataError(f"{paths[0]}: no row in it, so the task {task['task']!r} has nothing to ask")
            self.places[split] = [place for place, _ in located]
            rows = [row for _, row in located]
            _check_fields(task, rows, self.places[split])
            names = [name for name in dict.fromkeys(name for row in rows for name in row) if name]
            # (a column without a name, the index that pandas writes, would answer to `doc_to_text: ""`)
            columns = {name: [row.get(name) for row in rows] for name in names}
            if paths[0].suffix in (".csv", ".tsv"):
                columns = {name: _numbers(values) for name, values in columns.items()}
            splits[split] = (
                Rows(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
                if task.get("process_docs") is None
                else _data_set(columns, self.places[split])
            )
        return splits


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    if path.suffix == ".tsv":
        yield from _tab_separated(path)
        return
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path), 1)
        return
    kind = kind_of(path.name)
    if kind is None:
        raise DataError(f"{path}: data of a benchmark are .jsonl, .json, .csv, .tsv, .parquet or .txt, not this")
    with tempfile.TemporaryDirectory() as scratch:
        for record in read_records(path, kind, Reading(("text",), MAX_ROW_BYTES), Path(scratch)):
            if isinstance(record, BadRecord):
                raise DataError(f"{path}, line {record.line}: {record.reason}")
            if kind.format == "txt":  # one row for each line, as `datasets` reads text
                yield from (
                    (number, {"text": line}) for number, line in enumerate(record.fields["text"].split("\n"), 1)
                )
            else:
                yield record.line, dict(record.fields)


def _tab_separated(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(lines, [])
            for values in lines:
                if len(values) != len(header):
                    raise DataError(f"{path}, line {lines.line_num}: {len(values)} fields, the header {len(header)}")
                yield lines.line_num, dict(zip(header, values, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not tab-separated text in UTF-8: {error}") from None


def _parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet ({str(error).splitlines()[0][:100]})") from None


def _numbers(values: list[Any]) -> list[Any]:
    """A column of CSV as numbers where every value is one: `label` is an index, not a text."""
    for convert in (int, float):
        try:
            return [convert(value) for value in values]
        except ValueError:
            continue
    return values


def _check_fields(task: Mapping[str, Any], rows: Sequence[Row], places: Sequence[str]) -> None:
    """Every row holds what the prompts are made of; where `process_docs` makes other fields, nothing is known."""
    if task.get("process_docs") is not None:
        return
    columns = {name for row in rows for name in row}
    for option in PROMPT_FIELDS:
        for name in sorted(_fields_of(task.get(option), columns)):
            for row, place in zip(rows, places, strict=True):
                if row.get(name) is None:
                    raise DataError(
                        f"{place}: the row has no field {name!r}, which {option} of the task {task['task']!r} needs "
                        f"(it has: {', '.join(row)})"
                    )


def _fields_of(template: Any, columns: set[str]) -> set[str]:
    """The fields that a prompt cannot do without: a field's name, or the names in a template without conditions."""
    import jinja2
    from jinja2 import meta, nodes
    from lm_eval.utils import env

    if not isinstance(template, str) or not template:
        return set()
    if template in columns or (template.isidentifier() and not template.isdigit()):
        return {template}  # lm-eval would take the name of a field that is not there as the text itself
    try:
        tree = env.parse(template)
        names = set(meta.find_undeclared_variables(tree))
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"the template {template!r} is not valid Jinja: {error.message}") from None
    conditional = any(tree.find_all((nodes.If, nodes.CondExpr, nodes.Test, nodes.For)))
    return set() if conditional else names


def _data_set(columns: Mapping[str, Sequence[Any]], places: Sequence[str]) -> "Dataset":
    import pyarrow as pa
    from datasets import Dataset

    for name, values in columns.items():
        try:
            pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            first = next(type(value) for value in values if value is not None)
            others = (i for i, value in enumerate(values) if value is not None and not isinstance(value, first))
            row = next(others, 0)  # 0: the difference is deeper, within lists
            raise DataError(
                f"{places[row]}: the field {name!r} has values of different types "
                f"({type(values[row]).__name__} here, {first.__name__} in the first row)"
            ) from None
    return Dataset.from_dict(dict(columns))
