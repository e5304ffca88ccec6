"""Our models behind lm-eval (EleutherAI's lm-evaluation-harness): its tasks, rules and numbers, our scorer.

`ScorerLM` turns lm-eval's requests into (context ids, continuation ids) for a scoring function: a model's, or an
n-gram baseline's, so that a baseline is measured by the very same rules. Tasks are YAML files written into a private
folder; their items come from memory, never through a data set cache. What lm-eval 0.4.13 would do by itself and must
not here: look for the hub, register 14,000 built-in tasks, cache answers under a key that does not know the model,
run a bootstrap in a process pool, record host and date. So `evaluate` is called below `simple_evaluate`, offline,
with `include_defaults=False`, `bootstrap_iters=0` and no cache. Cost: about 3 s to import, 1 s for 1,000 items.
"""

import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.canonical import canonical_json
from storage.home import home
from storage.tokens import END_OF_TEXT

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

Request = tuple[list[int], list[int]]
Scorer = Callable[[Sequence[Request]], list[tuple[float, bool]]]
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
    """lm-eval with local tasks: `{task name: (fields of its YAML, items)}`, written into `folder`."""

    def __init__(
        self, tasks: Mapping[str, tuple[Row, Sequence[Row]]], folder: Path, encode: Callable[[str], list[int]]
    ) -> None:
        import yaml

        self._encode = encode
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
        with _quiet_and_offline():
            from lm_eval.evaluator import evaluate
            from lm_eval.tasks import TaskManager

            manager = TaskManager(include_path=str(self._folder), include_defaults=False)
            loaded = manager.load(self._names)
            found = evaluate(_scorer_lm(self._encode, score), loaded, bootstrap_iters=0, log_samples=True)
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


def _scorer_lm(encode: Callable[[str], list[int]], score: Scorer) -> "TemplateLM":
    """An lm-eval model; made inside a function because its base class is lm-eval's."""
    from lm_eval.api.model import TemplateLM

    class ScorerLM(TemplateLM):
        """Log-likelihoods from a scoring function; the context of a request without one is `<|endoftext|>`."""

        @property
        def eot_token_id(self) -> int:
            return END_OF_TEXT

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return encode(string)

        def _loglikelihood_tokens(
            self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
        ) -> list[tuple[float, bool]]:
            """Equal requests (a distractor that stands in several items) are scored once."""
            wanted = [(_after_mark(context), tuple(continuation)) for _, context, continuation in requests]
            unique = list(dict.fromkeys(wanted))
            scored = score([(list(context), list(continuation)) for context, continuation in unique])
            answers = dict(zip(unique, scored, strict=True))
            return [answers[request] for request in wanted]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            raise NotImplementedError("bits per byte are measured with strided windows, not by lm-eval")

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            raise NotImplementedError("the tasks here score, they do not generate")

    return ScorerLM()


def _after_mark(context: list[int]) -> tuple[int, ...]:
    """A context as the model has seen them in training: after `<|endoftext|>`."""
    return tuple(context) if context[:1] == [END_OF_TEXT] else (END_OF_TEXT, *context)


@contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """Hugging Face libraries read these at import; a user's HF_HOME stays, all is put back afterwards."""
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": os.environ.get("HF_HOME", str(home() / "cache" / "huggingface")),
    }
    before = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    os.environ.update(wanted)
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import lm_eval.api.task as task_module

        progress_bar = task_module.tqdm
        task_module.tqdm = functools.partial(progress_bar, disable=True)
        try:
            yield
        finally:
            task_module.tqdm = progress_bar
    finally:
        logger.setLevel(level)
        for name in [name for name in os.environ if name.startswith("HF_")]:  # lm-eval sets some of its own
            del os.environ[name]
        os.environ.update(before)
