"""lm-eval's numbers are our scorer's: accuracy is the argmax of what it returned, and nothing is fetched or kept."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.evaluate.lm_eval.backend import Request
from tasks.evaluate.lm_eval.own_tasks import CHOICE_TASK, CLOZE_TASK, Harness

CHOICES: list[dict[str, Any]] = [
    {"context": "one two three", "choices": [" four", " red", " bird", " seven of them"], "label": 0},
    {"context": "red green", "choices": [" seven", " one", " blue", " a long answer indeed"], "label": 2},
    {"context": "a bird can", "choices": [" fly", " swim", " sing", " four"], "label": 1},
]
CLOZE: list[dict[str, Any]] = [
    {"context": "one two three", "target": " four"},
    {"context": "red green", "target": " blue"},
]
HASH = 1_000_003


def encode(text: str) -> list[int]:
    """Characters as ids, so that a context is always a prefix of its text."""
    return [ord(character) for character in text]


def fake_score(requests: Sequence[Request]) -> list[tuple[float, bool]]:
    """Any fixed function of the request; greedy where the context ends in an `e`."""
    found = []
    for context, continuation in requests:
        value = sum((place + 1) * token for place, token in enumerate([*context, *continuation])) % HASH
        found.append((-0.1 - value / HASH * len(continuation), context[-1] == ord("e")))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    before = dict(os.environ)
    os.environ["LLMILL_HOME"] = str(folder / "home")
    try:
        tasks = {"cloze": (CLOZE_TASK, CLOZE), "choice": (CHOICE_TASK, CHOICES), "none": (CLOZE_TASK, [])}
        result = Harness(tasks, folder / "tasks", encode).run(fake_score)
        leaked = {name for name in os.environ if os.environ[name] != before.get(name)} - {"LLMILL_HOME"}
    finally:
        os.environ.clear()
        os.environ.update(before)
    result["leaked"] = leaked  # type: ignore[assignment]
    return result


def test_accuracy_is_the_argmax_of_the_scorer(found: dict[str, Any]) -> None:
    for sample, item in zip(found["choice"]["samples"], CHOICES, strict=True):
        context = [0, *encode(str(item["context"]))]
        given = [fake_score([(context, encode(choice))])[0][0] for choice in item["choices"]]
        alone = [fake_score([([0], encode(choice))])[0][0] for choice in item["choices"]]
        lengths = [len(choice) for choice in item["choices"]]
        assert sample["acc"] == float(np.argmax(given) == item["label"])
        assert sample["acc_norm"] == float(np.argmax(np.array(given) / lengths) == item["label"])
        assert sample["acc_mutual_info"] == float(np.argmax(np.array(given) - alone) == item["label"])
    assert found["choice"]["results"]["acc"] == np.mean([sample["acc"] for sample in found["choice"]["samples"]])


def test_cloze_is_greedy_and_perplexity_is_of_the_word(found: dict[str, Any]) -> None:
    assert [sample["acc"] for sample in found["cloze"]["samples"]] == [1, 0]
    nats = [fake_score([([0, *encode(i["context"])], encode(i["target"]))])[0][0] for i in CLOZE]
    assert found["cloze"]["results"]["perplexity"] == pytest.approx(math.exp(-np.mean(nats)))


def test_lm_evals_own_perplexity_has_a_bound(home: Path) -> None:
    """A word of 2,000 nats: math.exp, which lm-eval takes, raises OverflowError above 709."""
    harness = Harness({"cloze": (CLOZE_TASK, CLOZE)}, home / "tasks", encode)
    found = harness.run(lambda requests: [(-2000.0, False) for _ in requests])
    assert found["cloze"]["results"]["perplexity"] == 1e300


def test_a_task_without_items_is_left_out_and_the_environment_is_put_back(found: dict[str, Any]) -> None:
    assert set(found) == {"cloze", "choice", "leaked"}
    assert found["leaked"] == set()


def test_equal_requests_are_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMILL_HOME", str(tmp_path / "home"))
    asked: list[Request] = []

    def score(requests: Sequence[Request]) -> list[tuple[float, bool]]:
        asked.extend(requests)
        return fake_score(requests)

    Harness({"choice": (CHOICE_TASK, CHOICES)}, tmp_path / "tasks", encode).run(score)
    assert len(asked) == len({(tuple(context), tuple(continuation)) for context, continuation in asked})
    assert len(asked) == 12 + 11  # `four` stands alone once, though in two items
    assert not (tmp_path / "home").exists()  # no data set cache
