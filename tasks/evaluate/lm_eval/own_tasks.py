"""Our own two benchmarks behind lm-eval (EleutherAI's lm-evaluation-harness): its rules and numbers, our scorers.

Models and n-gram baselines are measured by the very same rules (backend.py). Tasks are YAML files written into a
private folder; their items come from memory, never through a data set cache. What lm-eval 0.4.13 would do by itself
and must not here: ask the hub, register 14,000 built-in tasks, cache answers under a key that does not know the
model, run a bootstrap in a process pool, record host and date. So `evaluate` is called below `simple_evaluate`,
offline, with `include_defaults=False`, `bootstrap_iters=0` and no cache. Cost: about 3 s to import, 1 s for 1,000
items.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.canonical import canonical_json
from storage.tokens import END_OF_TEXT
from tasks.evaluate.lm_eval.backend import Scorer, bound_aggregations, scorer_lm
from tasks.evaluate.lm_eval.hub import quiet_libraries

Row = dict[str, Any]

# A task by its YAML's fields; `!function` and the items are added where it is written.
CLOZE_TASK: Row = {
    "output_type": "loglikelihood",
    "doc_to_text": "context",
    "doc_to_target": "target",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
    ],
}
CHOICE_TASK: Row = {
    "output_type": "multiple_choice",
    "doc_to_text": "context",
    "doc_to_target": "label",
    "doc_to_choice": "choices",
    "target_delimiter": "",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm", "acc_mutual_info")
    ],
}


def read_items(path: str, **_: Any) -> dict[str, Any]:
    """The splits of a task, as lm-eval's `custom_dataset` asks for them: in memory, no data set cache."""
    from datasets import Dataset

    return {"test": Dataset.from_list([json.loads(line) for line in Path(path).read_bytes().split(b"\n") if line])}


class Harness:
    """lm-eval with local tasks: `{task name: (fields of its YAML, items)}`, written into `folder`.

    `encode` gives the ids of a text, which begins with the id `start`.
    """

    def __init__(
        self,
        tasks: Mapping[str, tuple[Row, Sequence[Row]]],
        folder: Path,
        encode: Callable[[str], list[int]],
        start: int = END_OF_TEXT,
    ) -> None:
        import yaml

        self._encode, self._start = encode, start
        self._folder = folder
        self._names = [name for name, (_, items) in tasks.items() if items]
        folder.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            fields, items = tasks[name]
            path = folder / f"{name}.jsonl"
            path.write_bytes(b"".join(canonical_json(item) + b"\n" for item in items))
            body = {
                "task": name,
                "test_split": "test",
                "num_fewshot": 0,
                **fields,
                "dataset_kwargs": {"path": str(path)},
            }
            loader = f"custom_dataset: !function {read_items.__module__}.{read_items.__name__}\n"
            (folder / f"{name}.yaml").write_text(loader + yaml.safe_dump(body), encoding="utf-8")

    def run(self, score: Scorer) -> dict[str, dict[str, Any]]:
        """Per task: lm-eval's own figures under `results`, one row an item under `samples`, in order of the items."""
        if not self._names:
            return {}
        with quiet_libraries():
            from lm_eval.evaluator import evaluate
            from lm_eval.tasks import TaskManager

            manager = TaskManager(include_path=str(self._folder), include_defaults=False)
            loaded = manager.load(self._names)
            for task in loaded["tasks"].values():
                bound_aggregations(task)
            asked = scorer_lm(self._encode, score, start=self._start, apart=True)
            found = evaluate(asked, loaded, bootstrap_iters=0, log_samples=True)
        return {
            name: {
                "results": {
                    key.removesuffix(",none"): value
                    for key, value in found["results"][name].items()
                    if isinstance(value, float)
                },
                "samples": sorted(found["samples"][name], key=lambda sample: sample["doc_id"]),
            }
            for name in self._names
        }
