"""Benchmarks of a recipe -> tasks of lm-eval, ready to be asked, or an error that says what is wrong with them.

What lm-eval 0.4.13 would do by itself and must not here: take 10 CPU-seconds to index tasks that nobody asked for;
copy local data into a cache; pass over a recipe's n-shot without a word where the task says 0; take the first n items
for a sample of n; draw an item itself as an example for it; put the word None where a row lacks a field.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import ConfigError, DataError, LlmillError
from tasks.evaluate.config import PACKS, BenchmarkConfig
from tasks.evaluate.documents import rank
from tasks.evaluate.lm_eval.backend import bound_aggregations
from tasks.evaluate.lm_eval.builtin import builtin_names, check_builtin, tasks_folder
from tasks.evaluate.lm_eval.hub import not_loaded, quiet_libraries, why_unreachable
from tasks.evaluate.lm_eval.task_data import LocalData
from tasks.evaluate.lm_eval.task_files import (
    TaskFile,
    data_files,
    expand,
    pack_data,
    reachable,
    read_task_files,
    wanted,
)

OWN_NAMES = ("heldout", "answers", "cloze", "choice", "memorisation", "canaries", "calibration")

Task = Any  # lm_eval.api.task.Task


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """A task of lm-eval under the name that scores give it, cut to the items that are asked."""

    label: str
    name: str
    task: Task
    documents: list[dict[str, Any]]  # the items
    digests: list[str]  # of the items' contents
    shots: int
    chat: bool

    @property
    def choosing(self) -> bool:
        return bool(self.task.OUTPUT_TYPE == "multiple_choice")


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that have figures together; `members` are their labels."""

    label: str
    name: str
    members: list[str]
    shots: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """All tasks of a recipe and their groups."""

    tasks: list[LoadedTask] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


def load_benchmarks(benchmarks: Sequence[BenchmarkConfig], seed: int) -> Loaded:
    """Read every task and its data, and check every item that will be asked."""
    loaded = Loaded()
    names = [benchmark for benchmark in benchmarks if benchmark.path is None and benchmark.data is None]
    unreachable = why_unreachable() if names else ""
    for number, benchmark in enumerate(benchmarks):
        option = f"evaluate.tasks[{number}]"
        local = benchmark.path is not None or benchmark.data is not None
        with quiet_libraries(offline=local or bool(unreachable)):
            if benchmark.data is not None:
                found, data = _from_pack(benchmark, option)
            elif benchmark.path is not None:
                found, data = _from_files(benchmark, option)
            else:
                found, data = _from_lm_eval(str(benchmark.name), option, unreachable), {}
            suffix = "" if benchmark.num_fewshot is None else f"/{benchmark.num_fewshot}-shot"
            suffix += "/chat" if benchmark.chat else ""
            labels = _labels(found, suffix)
            for name, task in found["tasks"].items():
                _add(loaded, _prepare(labels[name], name, task, benchmark, option, data.get(name), seed), option)
            for name, members in found["groups"].items():
                own = [labels[member] for member in members]
                shots = max((task.shots for task in loaded.tasks if task.label in own), default=0)
                loaded.groups.append(Group(name + suffix, name, own, shots))
    return loaded


def _labels(found: dict[str, Any], suffix: str) -> dict[str, str]:
    """What scores call each task: `arc_easy`, `arc_easy/5-shot`; of a group `blimp/adjunct_island`."""
    labels = {name: name + suffix for name in found["tasks"]}
    for group, members in reversed(found["groups"].items()):  # the outermost is first
        labels |= {name: f"{group}{suffix}/{name.removeprefix(group + '_')}" for name in members}
    return labels


def _add(loaded: Loaded, task: LoadedTask, option: str) -> None:
    if task.name in OWN_NAMES:
        raise ConfigError(f"{option}: {task.name} is the name of a figure of llmill's own; rename the task")
    if any(task.label == other.label for other in loaded.tasks):
        raise ConfigError(f"{option}: the task {task.label} is asked for twice in the same way; leave one out")
    loaded.tasks.append(task)


def _from_lm_eval(name: str, option: str, unreachable: str) -> dict[str, Any]:
    """A task, group or tag of lm-eval's own, its folders alone indexed; `unreachable` says why the hub is not asked."""
    from lm_eval.tasks import TaskManager

    check_builtin(name, f"{option}.name")
    known, root = builtin_names(), tasks_folder()
    folders = set(known[name])
    while True:
        outermost = [
            root / folder for folder in sorted(folders) if not any(_within(folder, other) for other in folders)
        ]
        manager = TaskManager(include_path=list(outermost), include_defaults=False)
        more = {folder for absent in _absent(manager.task_index, name) for folder in known.get(absent, ())}
        if more <= folders:
            break
        folders |= more
    if name not in manager.task_index:
        raise DataError(f"{option}.name: lm-eval names {name!r} only inside other tasks; name one of those")
    try:
        return _flat(manager.load([name]))
    except Exception as error:  # anything that the libraries raise for data that they cannot get
        raise not_loaded(name, option, unreachable, error) from error


def _within(folder: str, other: str) -> bool:
    return folder != other and Path(folder).is_relative_to(other)


def _absent(index: dict[str, Any], name: str) -> Iterator[str]:
    """Members of a group, at any depth, that the index does not hold."""
    entry = index.get(name)
    listed = (entry.cfg or {}).get("task") if entry is not None else None
    for item in listed if isinstance(listed, list) else []:
        member = item if isinstance(item, str) else item.get("task", item.get("group"))
        if not isinstance(member, str):
            continue
        if member in index:
            yield from _absent(index, member)
        else:
            yield member


def _from_files(benchmark: BenchmarkConfig, option: str) -> tuple[dict[str, Any], dict[str, LocalData]]:
    """The tasks of task files, and the local data of each by its name."""
    from lm_eval.tasks import TaskManager

    files = read_task_files(str(benchmark.path), option)
    names = wanted(files, benchmark.name, option)
    folder = Path(str(benchmark.path))
    manager = TaskManager(include_path=str(folder if folder.is_dir() else folder.parent), include_defaults=False)
    data = {}
    for name in reachable(files, names):
        task = files[name]
        for member in task.members:
            if not expand(files, [member]):
                raise DataError(f"{task.path}: the group {name} lists {member!r}, which no task file here defines")
        found = None if task.members else data_files(task)
        if found is not None:
            data[name] = LocalData(found)
            _check_splits(task, found)
            entry = manager.task_index[name]
            entry.cfg, entry.yaml_path = _in_memory(_fields(task), data[name]), None
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}}
    for name in names:
        try:
            found_tasks = _flat(manager.load([name]))
        except LlmillError:
            raise
        except ConnectionError as error:
            raise not_loaded(str(files[name].path), option, "task files are read without the hub", error) from error
        except Exception as error:  # anything that lm-eval raises for a task that it cannot use
            raise DataError(f"{option}: {files[name].path}: lm-eval cannot use it: {_said(error)}") from error
        loaded = {part: loaded[part] | found_tasks[part] for part in loaded}
    return loaded, data


def _from_pack(benchmark: BenchmarkConfig, option: str) -> tuple[dict[str, Any], dict[str, LocalData]]:
    """The task that ships under a name on the recipe's data; of a folder one task for each file, and their group."""
    from lm_eval.tasks import TaskManager

    pack = str(benchmark.name)
    file = read_task_files(str(PACKS / f"{pack}.yaml"), option)[pack]
    paths = pack_data(str(benchmark.data), option)
    several = Path(str(benchmark.data)).is_dir()
    data = {f"{pack}_{path.stem}" if several else pack: LocalData({"test": [path]}) for path in paths}
    manager = TaskManager(include_path=[], include_defaults=False)
    try:
        specs = [_in_memory(_fields(file) | {"task": name}, source) for name, source in data.items()]
        found = _flat(manager.load(specs))
    except LlmillError:
        raise
    except Exception as error:
        raise DataError(f"{option}.data: {benchmark.data}: not data of {pack}: {_said(error)}") from error
    return found | {"groups": {pack: list(data)} if several else {}}, data


def _flat(found: Any) -> dict[str, Any]:
    """lm-eval's answer as tasks by name, and the names of all tasks of each group."""
    return {
        "tasks": dict(found["tasks"]),
        "groups": {
            name: [task.task_name for task in group.get_all_tasks()] for name, group in found.get("groups", {}).items()
        },
    }


def _fields(task: TaskFile) -> dict[str, Any]:
    """A task file as lm-eval reads it, with its functions."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return load_yaml(task.path, resolve_func=True)
    except Exception as error:  # the functions are the user's own code: its import may raise anything
        raise DataError(f"{task.path}: a `!function` cannot be used: {_said(error)}") from error


def _in_memory(fields: dict[str, Any], data: LocalData) -> dict[str, Any]:
    """The fields of a task whose data come from `data` instead of a data set cache."""
    kept = {name: value for name, value in fields.items() if name not in ("dataset_path", "dataset_kwargs")}

    def load(**_: Any) -> dict[str, Any]:
        return data.load(fields)

    return kept | {"custom_dataset": load}


def _check_splits(task: TaskFile, data: dict[str, Any]) -> None:
    for option in ("training_split", "validation_split", "test_split", "fewshot_split"):
        split = task.fields.get(option)
        if split is not None and split not in data:
            raise DataError(
                f"{task.path}: {option} is {split!r}, but dataset_kwargs.data_files has {', '.join(map(repr, data))}"
            )


def _prepare(
    label: str,
    name: str,
    task: Task,
    benchmark: BenchmarkConfig,
    option: str,
    data: LocalData | None,
    seed: int,
) -> LoadedTask:
    """Set the n-shot, draw the sample, and check what will be asked."""
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        raise DataError(f"{option}: {name}: runs code that a model writes, or asks about pictures: not measured here")
    for metric, aggregation in task.aggregation().items():
        if aggregation is None:  # lm-eval says so in its log only
            raise DataError(f"{option}: {name}: the aggregation of the metric {metric} is not one that lm-eval knows")
    if benchmark.num_fewshot is not None and task.OUTPUT_TYPE != "loglikelihood_rolling":
        task.set_config("num_fewshot", benchmark.num_fewshot)
    bound_aggregations(task)
    shots = int(task.config.num_fewshot or 0)
    documents = list(task.eval_docs)
    digests = [_digest(document) for document in documents]
    order = sorted(range(len(digests)), key=lambda number: (rank(seed, digests[number]), number))
    chosen = sorted(order[: benchmark.limit])
    if shots:
        _check_examples(task, name, shots, option)
    for number in chosen:
        _check_item(task, documents[number], f"{option}: {name}: {_place(task, data, number)}")
    items = [documents[number] for number in chosen]
    _cut(task, items)
    return LoadedTask(label, name, task, items, [digests[number] for number in chosen], shots, benchmark.chat)


def _cut(task: Task, items: list[dict[str, Any]]) -> None:
    """Leave a task no items but these. lm-eval's own `samples` goes through all rows, twice for each model."""
    from lm_eval.api.task import ConfigurableTask

    if not isinstance(task, ConfigurableTask):
        task.test_docs, task.has_test_docs = (lambda: items), (lambda: True)
        return
    task.dataset = {task.config.test_split or task.config.validation_split: items}  # examples were drawn from before
    task.config.process_docs = None  # is done


def _digest(document: Any) -> str:
    """What an item of a benchmark says, without its place in the file."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def _place(task: Task, data: LocalData | None, number: int) -> str:
    """Where an item is: file and line, or its number where the task makes its items itself."""
    split = task.config.test_split or task.config.validation_split
    if data is None or task.config.process_docs is not None:
        return f"item {number + 1} of the split {split}"
    return data.places[split][number]


def _check_examples(task: Task, name: str, shots: int, option: str) -> None:
    """Examples need a split to come from, other than the item that is asked."""
    config = task.config
    asked = config.test_split or config.validation_split
    settings = config.fewshot_config
    if settings.samples is None and settings.split is None:
        settings.split = config.training_split or config.validation_split
        if settings.split is None:
            raise DataError(
                f"{option}.num_fewshot: {name} has no split to draw {shots} examples from; give its task file a "
                "training_split or a fewshot_split, or set num_fewshot to 0"
            )
    if config.test_split is None:  # lm-eval keeps an item out of its own examples in the test split only
        config.test_split = config.validation_split
    own = settings.samples is None and settings.split == asked
    available = len(task.sampler.df) - own
    if available < shots:
        raise DataError(f"{option}.num_fewshot: {name} has {available} examples to draw from, not {shots}")


def _check_item(task: Task, document: Any, place: str) -> None:
    """Whether an item can be asked at all: its prompt, its choices, its gold answer."""
    try:
        text, target = task.doc_to_text(document), task.doc_to_target(document)
        choices = task.doc_to_choice(document) if task.config.doc_to_choice is not None else None
    except Exception as error:  # templates and functions of a task file may raise anything
        raise DataError(f"{place}: the item cannot be asked: {_said(error)}") from None
    if task.OUTPUT_TYPE != "multiple_choice":
        return
    if (
        not isinstance(choices, list)
        or not choices
        or not all(isinstance(choice, str) and choice for choice in choices)
    ):
        raise DataError(f"{place}: the choices are {choices!r:.80}, not a list of texts")
    if task.config.process_results is not None:  # decides itself what is right
        return
    gold = text if isinstance(text, int) else target
    for one in gold if isinstance(gold, list) else [gold]:
        if one not in choices if isinstance(one, str) else not 0 <= int(one) < len(choices):
            raise DataError(f"{place}: the right answer is {one!r}, which is not one of the {len(choices)} choices")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
