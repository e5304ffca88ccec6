"""Stage benchmarks: what the benchmarks of a recipe ask, as hashes of runs of words (tasks/overlap.py), so that what
users say about them is not learned.

Comes in: nothing but the benchmarks, whose files are observed. Goes out: part `runs` (runs.npy, ascending numbers). Of
an item all texts count: its prompt, and each of its row, such as passage and choices. Cost: lm-eval's import, and 3 us
a word.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.evaluate.config import BenchmarkConfig
from tasks.evaluate.lm_eval.loading import load_benchmarks
from tasks.evaluate.lm_eval.task_files import observe_benchmarks
from tasks.overlap import hashes_of

FILE = "runs.npy"


class BenchmarksConfig(StageConfig):
    """Which items are asked: the benchmarks and the seed of the section evaluate."""

    tasks: tuple[BenchmarkConfig, ...] = Field(max_length=100, description="Benchmarks that lm-eval defines.")
    seed: int = Field(ge=0, le=2**32 - 1, description="Seed of the samples.")


def observe_tasks(config: BenchmarksConfig) -> dict[str, str]:
    """The files of the benchmarks."""
    return observe_benchmarks(config.tasks)


@stage(
    "benchmarks",
    parts=("runs",),
    observe=observe_tasks,
    libraries=("lm_eval", UNICODE),
    about="tasks.evaluate.about.BENCHMARKS",
)
def read_items(config: BenchmarksConfig, *, context: Context) -> Summary:
    """Read the questions of the benchmarks, so that they are not learned from users."""
    return write_runs(config, context.part("runs"))


def write_runs(config: BenchmarksConfig, folder: Path) -> Summary:
    """Write runs.npy; returns the number of items and of runs."""
    tasks = load_benchmarks(config.tasks, config.seed).tasks
    items = ((task.task, document) for task in tasks for document in task.documents)
    runs = hashes_of(text for task, document in items for text in _texts([task.doc_to_text(document), document]))
    np.save(folder / FILE, runs, allow_pickle=False)
    return {"items": sum(len(task.documents) for task in tasks), "runs": len(runs)}


def _texts(value: Any) -> Iterator[str]:
    """All texts in an item, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for inner in value.values() for text in _texts(inner))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        yield from (text for inner in value for text in _texts(inner))
