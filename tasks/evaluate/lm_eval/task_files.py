"""lm-eval's task files (YAML), read without lm-eval: what they define, and every file that their figures depend on.

A file defines a task or a group; `include:` takes over another file's fields, `!function module.name` names code in a
module beside it, `dataset_kwargs.data_files` the data (docs/new_task_guide.md of lm-eval). Paths in a file are
relative to it. Cost: about 1 ms a file.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from storage.errors import DataError
from storage.source_hashes import hash_files
from storage.yaml_files import read_yaml
from tasks.evaluate.config import PACKS, BenchmarkConfig
from tasks.evaluate.lm_eval.builtin import check_builtin, lm_eval_version

DATA_FORMATS = ("json", "csv", "parquet", "text")  # of `dataset_path`, where the data are local files
DATA_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")

Files = dict[str, list[Path]]  # by split


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task or a group: `fields` with includes merged in; `read` are this file and those that it includes."""

    name: str
    path: Path
    fields: Mapping[str, Any]
    read: tuple[Path, ...]

    @property
    def members(self) -> list[str]:
        """Names that a group lists: tasks, groups and tags."""
        listed = self.fields.get("task")
        if not isinstance(listed, list):
            return []
        return [item if isinstance(item, str) else str(item.get("task", item.get("group"))) for item in listed if item]


class Function(str):
    """A `!function`, by the text after it."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML in which `!function` is kept as text."""


_Loader.add_constructor("!function", lambda loader, node: Function(loader.construct_scalar(node)))


def read_task_files(path: str, option: str) -> dict[str, TaskFile]:
    """The tasks and groups of a folder (of one file: of it and its folder), by name; `option` names the recipe's field.

    Files of a folder that define neither are templates for others and skipped.
    """
    given = Path(path)
    if given.is_file():
        asked = [given]
    elif given.is_dir():
        asked = sorted(file for file in given.rglob("*.yaml") if "__pycache__" not in file.parts)
    else:
        raise DataError(f"{option}: {path}: no such file or folder. Give lm-eval task files (.yaml)")
    found: dict[str, TaskFile] = {}
    for file in asked:
        fields, read = _merged(file, option)
        name = fields.get("group") or fields.get("task")
        if not isinstance(name, str) or not name:
            continue
        if name in found:
            raise DataError(f"{option}: {file}: the task {name!r} is defined in {found[name].path} too; rename one")
        found[name] = TaskFile(name, file, fields, tuple(read))
    if not found:
        what = "it names" if given.is_file() else f"none of its {len(asked)} .yaml files names"
        raise DataError(f"{option}: {path}: no task file of lm-eval: {what} a `task:` or a `group:`")
    if given.is_file() and any(task.members for task in found.values()):
        beside = read_task_files(str(given.parent), option)
        return {name: beside[name] for name in [*found, *reachable(beside, found)]}
    return found


def wanted(files: Mapping[str, TaskFile], name: str | None, option: str) -> list[str]:
    """The names that are asked for: `name` (a tag means its tasks), or all that no group of the folder holds."""
    if name is None:
        held = {member for task in files.values() for member in expand(files, task.members)}
        return [name for name in files if name not in held]
    names = expand(files, [name])
    if not names:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"{option}.name: no task {name!r} there{hint}. There are: {', '.join(list(files)[:10])}")
    return names


def expand(files: Mapping[str, TaskFile], names: Iterable[str]) -> list[str]:
    """Names with each tag replaced by the tasks that carry it; what the files do not define is left out."""
    tagged = [(name, _as_list(task.fields.get("tag"))) for name, task in files.items()]
    return [
        found
        for name in names
        for found in ([name] if name in files else [task for task, tags in tagged if name in tags])
    ]


def reachable(files: Mapping[str, TaskFile], names: Iterable[str]) -> list[str]:
    """The names and all that their groups hold, in order of first mention."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += expand(files, files[name].members)
    return list(found)


def data_files(task: TaskFile) -> Files | None:
    """The local data of a task by split; None where they come from elsewhere (the hub, a function, a URL)."""
    fields = task.fields
    if fields.get("dataset_path") not in DATA_FORMATS or "custom_dataset" in fields:
        return None
    settings = fields.get("dataset_kwargs")
    given = settings.get("data_files") if isinstance(settings, dict) else None
    if not given:
        raise DataError(f"{task.path}: dataset_path {fields['dataset_path']} needs dataset_kwargs.data_files")
    by_split = given if isinstance(given, dict) else {"train": given}  # as `datasets` names an only split
    if any("://" in str(pattern) for patterns in by_split.values() for pattern in _as_list(patterns)):
        return None
    return {
        str(split): [path for pattern in _as_list(patterns) for path in _matches(task, str(pattern))]
        for split, patterns in by_split.items()
    }


def pack_data(data: str, option: str) -> list[Path]:
    """The data files of a pack: one, or those of a folder."""
    given = Path(data)
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise DataError(f"{option}.data: {data}: no such file or folder")
    files = sorted(path for path in given.iterdir() if path.suffix in DATA_ENDINGS)
    if not files:
        raise DataError(f"{option}.data: {data}: the folder holds no data file ({', '.join(DATA_ENDINGS)})")
    return files


def observe_benchmarks(benchmarks: Sequence[BenchmarkConfig]) -> dict[str, str]:
    """SHA-256 of every local file that the benchmarks are made of: task files, their includes, modules beside them,
    data. Of lm-eval's own tasks the version of lm-eval; that the hub serves other data under the same name is not
    seen (`--force evaluate` asks again). Imports neither lm-eval nor datasets."""
    observed: dict[str, str] = {}
    for number, benchmark in enumerate(benchmarks):
        option = f"evaluate.tasks[{number}]"
        if benchmark.path is None and benchmark.data is None:
            check_builtin(str(benchmark.name), f"{option}.name")
            observed["lm_eval"] = lm_eval_version()
            continue
        base = Path(benchmark.path or benchmark.data or "")
        base = base if base.is_dir() else base.parent
        for file in hash_files([(_label(path, base), path) for path in _dependencies(benchmark, option)]):
            observed[f"tasks[{number}]/{file.name}"] = file.digest
    return observed


def _dependencies(benchmark: BenchmarkConfig, option: str) -> list[Path]:
    """The files of a benchmark in order of their paths, each once."""
    if benchmark.data is not None:
        pack = read_task_files(str(PACKS / f"{benchmark.name}.yaml"), option)[str(benchmark.name)]
        return sorted({*pack.read, *_modules(pack), *pack_data(benchmark.data, option)})
    files = read_task_files(str(benchmark.path), option)
    paths: set[Path] = set()
    for name in reachable(files, wanted(files, benchmark.name, option)):
        task = files[name]
        paths |= {*task.read, *_modules(task)}
        if not task.members:
            paths |= {path for split in (data_files(task) or {}).values() for path in split}
    return sorted(paths)


def _label(path: Path, base: Path) -> str:
    """A file as it is seen from the benchmark's folder: one that moves as a whole is the same."""
    return f"packs/{path.name}" if path.parent == PACKS else Path(os.path.relpath(path, base)).as_posix()


def _merged(path: Path, option: str, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], list[Path]]:
    """A file's fields over those that it includes, and the files read; relative paths of functions are not resolved."""
    if path in above:
        raise DataError(f"{option}: {path}: includes itself")
    fields = _read(path, option)
    merged: dict[str, Any] = {}
    read = [path]
    for include in _as_list(fields.pop("include", None)):
        included, files = _merged(path.parent / str(include), option, (*above, path))
        merged |= included
        read += files
    return merged | fields, read


def _read(path: Path, option: str) -> dict[str, Any]:
    where = f"{option}: "
    return read_yaml(path, "task file of lm-eval", "fields", loader=_Loader, error=DataError, where=where)


def _matches(task: TaskFile, pattern: str) -> list[Path]:
    base = task.path.parent
    if "*" in pattern:
        found = sorted(Path(base.anchor).glob(os.path.relpath(base / pattern, base.anchor)))
    else:
        found = [path for path in [base / pattern] if path.is_file()]
    if not found:
        raise DataError(f"{task.path}: dataset_kwargs.data_files: {pattern}: no such file (looked in {base})")
    return found


def _modules(task: TaskFile) -> Iterator[Path]:
    """The modules whose functions a task file names, and the modules beside them."""
    for function in _functions(task.fields):
        for folder in {path.parent for path in task.read}:
            module = folder / (function.rpartition(".")[0].replace(".", "/") + ".py")
            if module.is_file():
                yield from module.parent.glob("*.py")


def _functions(value: Any) -> Iterator[Function]:
    if isinstance(value, Function):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _functions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _functions(item)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
