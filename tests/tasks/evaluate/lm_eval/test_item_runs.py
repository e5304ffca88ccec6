"""What a benchmark asks is known again in other texts; another sample or other data make another result."""

from pathlib import Path

import numpy as np
from benchmark_files import write_benchmarks
from tiny_model import LocalContext

from tasks.evaluate.item_runs import BenchmarksConfig, observe_tasks, read_items
from tasks.overlap import is_near


def test_the_items_of_a_task_are_known_by_their_prompts_and_rows(tmp_path: Path) -> None:
    folder = write_benchmarks(tmp_path / "tasks")
    config = BenchmarksConfig(tasks=({"name": "colours", "path": str(folder)},), seed=1)
    context = LocalContext(tmp_path / "out")
    summary = read_items.function(config, context=context)
    runs = np.load(context.part("runs") / "runs.npy")
    assert summary["items"] == 20 and summary["runs"] == len(runs) > 0
    thing = (folder / "colours.jsonl").read_text().splitlines()[0].split('"thing": "')[1].partition('"')[0]
    assert is_near(f"What colour is the {thing}? It is", runs)
    assert not is_near("What is a good name for a small grey cat that sleeps all day long by the stove?", runs)
    before = observe_tasks(config)
    with (folder / "colours.jsonl").open("a") as file:
        file.write('{"thing": "moss", "choices": ["red", "green"], "gold": 1}\n')
    assert observe_tasks(config) != before
