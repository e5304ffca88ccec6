"""Of two answers the chosen one: ties, the shorter one as a baseline, and what does not fit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_model import write_tokenizer

from storage.documents import Message, Pair
from tasks.answer.chat_form import ChatForm
from tasks.answer.template_form import needed_chat_form
from tasks.evaluate.measures.preferences import preference_measures, two_answers
from tasks.evaluate.statistics.scores import score_lines

CONTEXT = 64


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> ChatForm:
    return needed_chat_form(write_tokenizer(tmp_path_factory.mktemp("tokenizer"))["tokenizer"].path)


def preference(number: int, chosen: str = "Yes, gladly.", rejected: str = "No.", earlier: Any = ()) -> Pair:
    return Pair.of(f"Will you {number}?", chosen, f"g{number}", "heldout", "own", earlier, rejected)


class Scripted:
    """A scorer for which an answer of so many tokens is that unlikely."""

    def __init__(self, nats: Callable[[int], float]) -> None:
        self._nats = nats

    def continuations(self, requests: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        return [(self._nats(len(answer)), False) for _, answer in requests]


def test_accuracy_and_margin_of_each_model(form: ChatForm) -> None:
    asked = two_answers(
        form, [preference(1), preference(2, "No.", "Yes, gladly."), preference(3, "No.", "Ho.")], CONTEXT
    )
    scorers = {"base": Scripted(lambda tokens: -1.0 * tokens), "tuned": Scripted(lambda tokens: 2.0 * tokens)}

    def ask(question: Callable[[Any], Any]) -> dict[str, Any]:
        return {who: question(scorer) for who, scorer in scorers.items()}

    accuracy, margin = preference_measures(ask, asked)
    sizes = np.array([len(one.chosen) - len(one.rejected) for one in asked])
    assert sizes[0] == -sizes[1] > 0
    assert (
        margin.amounts["base"].tolist() == (-sizes).tolist()
        and margin.amounts["tuned"].tolist() == (2 * sizes).tolist()
    )
    tie = 0.5 if sizes[2] == 0 else float(sizes[2] > 0)
    assert accuracy.amounts["tuned"].tolist() == [1.0, 0.0, tie]
    assert accuracy.amounts["shorter_answer"].tolist() == [0.0, 1.0, 0.5]
    line = next(line for line in score_lines(accuracy, 100, 1) if line.model == "tuned")
    assert line.baselines["chance"] == 0.5 and line.items == 3


def test_what_does_not_fit_is_not_asked(form: ChatForm) -> None:
    earlier = (Message("user", "Hello"), Message("assistant", "Hello."))
    pairs = [preference(1), preference(2, rejected="long " * 80), preference(3, chosen="long " * 80)]
    asked = two_answers(form, [*pairs, preference(4, earlier=earlier)], CONTEXT)
    assert [one.pair.prompt for one in asked] == ["Will you 1?", "Will you 4?"]
    assert len(asked[1].prompt) > len(asked[0].prompt)
