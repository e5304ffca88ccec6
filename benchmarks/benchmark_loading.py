"""What it costs to get benchmarks ready: a group of 67 tasks of 1,000 local rows, and a name of lm-eval's own.

    python -m benchmarks.benchmark_loading [--tasks 67] [--rows 1000]

Ours beside lm-eval alone (its `TaskManager`, data through `datasets` into a fresh cache), in one process, in
CPU-seconds. Imports are paid before.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PAIR = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def write(folder: Path, tasks: int, rows: int) -> None:
    for number in range(tasks):
        data = folder / f"set{number}.jsonl"
        lines = [{"sentence_good": f"A dog {row} barks.", "sentence_bad": f"A dog {row} bark."} for row in range(rows)]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / f"set{number}.yaml").write_text(PAIR.format(name=f"set{number}", data=data))


def timed(what: str, work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    seconds = time.process_time() - started
    print(f"{what:<58} {seconds:7.2f} CPU-s")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=67)
    parser.add_argument("--rows", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        os.environ.update(LLMILL_HOME=f"{root}/home", HF_HOME=f"{root}/hf", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        folder = Path(root, "tasks")
        folder.mkdir()
        write(folder, given.tasks, given.rows)

        from lm_eval.evaluator import evaluate  # noqa: F401 (the import is not timed)
        from lm_eval.tasks import TaskManager

        from tasks.evaluate.config import BenchmarkConfig
        from tasks.evaluate.lm_eval.builtin import builtin_names
        from tasks.evaluate.lm_eval.hub import quiet_libraries
        from tasks.evaluate.lm_eval.loading import load_benchmarks
        from tasks.evaluate.lm_eval.task_files import observe_benchmarks

        benchmarks = [BenchmarkConfig(path=str(folder), limit=30)]
        timed("observe all files (llmill plan)", lambda: observe_benchmarks(benchmarks))
        timed("load, sample and check 30 items of each task", lambda: load_benchmarks(benchmarks, 1))
        with quiet_libraries():
            manager = TaskManager(include_path=str(folder), include_defaults=False)
            names = [f"set{number}" for number in range(given.tasks)]
            timed("the same tasks loaded by lm-eval alone", lambda: manager.load(names))
        timed("find a name among lm-eval's own, first time", builtin_names)
        timed("find a name among lm-eval's own, again", builtin_names)
        timed("lm-eval's index of its own tasks", TaskManager)


if __name__ == "__main__":
    main()
