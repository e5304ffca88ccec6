"""CPU seconds of the stage evaluate, by what is measured, on the models of a finished run.

    LLMILL_HOME=... python -m benchmarks.evaluation_time [--run latest]

The stage is called as a plain function and writes into a temporary folder; nothing in the home changes.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.build import Recipe
from flows.inspect.references import find_artifact
from storage.home import home
from storage.runs import find_run
from storage.store.local import Store
from tasks.engine.context import Execution
from tasks.evaluate import stage

MEASURES = (
    "heldout_measures",
    "answer_measures",
    "benchmark_measures",
    "span_measures",
    "canary_measures",
    "token_calibration",
)


class Folder:
    """As much of a context as the stage needs: folders below one."""

    execution = Execution()

    def __init__(self, root: Path) -> None:
        self.root = root

    def part(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    @property
    def work(self) -> Path:
        return self.part("work")

    def progress(self, *_: Any, **__: Any) -> None: ...


def timed(function: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    """The function, its CPU seconds noted under its name."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[function.__name__] = time.process_time() - started

    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="latest")
    run = parser.parse_args().run
    store = Store(home())
    config = Recipe.model_validate(find_run(home(), run)["recipe"]).evaluate
    base, tuned, tokenizer, clean = (
        find_artifact(store, f"{run}/{name}") for name in ("pretrain", "finetune", "tokenizer", "filter")
    )
    seconds: dict[str, float] = {}
    for name in MEASURES:
        setattr(stage, name, timed(getattr(stage, name), seconds))
    with tempfile.TemporaryDirectory() as folder:
        whole = timed(stage.evaluate.function, seconds)
        whole(config, base, tuned, tokenizer, clean, context=Folder(Path(folder)))
    for name, spent in seconds.items():
        print(f"{name:20} {spent:6.1f} CPU-s")


if __name__ == "__main__":
    main()
