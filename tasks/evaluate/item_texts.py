"""Stage items: what the benchmarks of a recipe ask and what is right, and the user's own items, so that the stage
decontam takes them out of what is learned.

Comes in: nothing but the benchmarks and the files, which are observed. Goes out: part `items` (items.parquet,
tasks/decontaminate/items.py). Cost: lm-eval's import, and 0.1 ms an item.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from storage.documents import write_rows
from tasks.decontaminate.config import DecontaminateSection, ItemsFile
from tasks.decontaminate.items import ITEMS_SCHEMA, Row, item_row, items_of_files, observe_items
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.stage import UNICODE, stage
from tasks.evaluate.config import BenchmarkConfig, EvaluateConfig
from tasks.evaluate.lm_eval.hub import quiet_libraries
from tasks.evaluate.lm_eval.loading import LoadedTask, load_benchmarks
from tasks.evaluate.lm_eval.task_files import observe_benchmarks


class ItemsConfig(StageConfig):
    """Which items there are: the benchmarks and the seed of the section evaluate, and the user's own."""

    tasks: tuple[BenchmarkConfig, ...] = Field((), max_length=100, description="Benchmarks that lm-eval defines.")
    files: tuple[ItemsFile, ...] = Field((), max_length=100, description="Questions besides those of evaluate.tasks.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the samples.")


def unseen_items(section: DecontaminateSection, evaluate: EvaluateConfig) -> ItemsConfig | None:
    """The config for a recipe; None where it has no items, or does not want them to be looked for."""
    if section.mode == "none" or not (evaluate.tasks or section.files):
        return None
    return ItemsConfig(tasks=evaluate.tasks, files=section.files, seed=evaluate.seed)


def observe_asked(config: ItemsConfig) -> dict[str, str]:
    """The files of the benchmarks and of the user's own items."""
    return observe_benchmarks(config.tasks) | observe_items(config.files)


@stage(
    "items",
    parts=("items",),
    observe=observe_asked,
    libraries=("lm_eval", "pyarrow", UNICODE),
    about="tasks.evaluate.about.ITEMS",
)
def read_asked(config: ItemsConfig, *, context: Context) -> Summary:
    """Read what the benchmarks ask, so that it is not learned. Summary: the number of items."""
    rows = (row for some in (_asked(config), items_of_files(config.files)) for row in some)
    return {"items": write_rows(context.part("items") / "items.parquet", rows, ITEMS_SCHEMA)}


def _asked(config: ItemsConfig) -> Iterator[Row]:
    """The items of all tasks; of those that are asked in several ways the first."""
    if not config.tasks:
        return
    tasks = load_benchmarks(config.tasks, config.seed).tasks
    first: dict[tuple[str, str], Row] = {}
    with quiet_libraries():
        for task in tasks:
            for document, digest in zip(task.documents, task.digests, strict=True):
                if (task.name, digest) not in first:
                    first[task.name, digest] = item_row(task.name, digest, _prompt_and_answer(task, document))
    yield from first.values()


def _prompt_and_answer(task: LoadedTask, document: Mapping[str, Any]) -> str:
    """What is asked and the right answer, one after the other; of several right ones all."""
    asked, target = task.task.doc_to_text(document), task.task.doc_to_target(document)
    said = [] if isinstance(asked, int) else [asked]
    if task.choosing:
        choices = task.task.doc_to_choice(document)
        right = asked if isinstance(asked, int) else target
        said += [
            choices[one] if isinstance(one, int) and 0 <= one < len(choices) else one
            for one in (right if isinstance(right, list) else [right])
        ]
    if not task.choosing or isinstance(asked, int):
        said += target if isinstance(target, list) else [target]
    return " ".join(map(str, said))
