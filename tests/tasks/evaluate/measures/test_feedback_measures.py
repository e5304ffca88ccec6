"""What held-out users have said as figures: with the user as the unit, and said where there is too little of it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tiny_model import write_tokenizer

from storage.documents import Pair
from tasks.answer.chat_form import ChatForm
from tasks.answer.template_form import needed_chat_form
from tasks.evaluate.measures.feedback import OfUsers, corrections, feedback_measures, feedback_notices, missing_feedback
from tasks.evaluate.measures.preferences import two_answers

CONTEXT = 64


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> ChatForm:
    return needed_chat_form(write_tokenizer(tmp_path_factory.mktemp("tokenizer"))["tokenizer"].path)


def said(number: int, rejected: str = "") -> Pair:
    return Pair.of(f"Will you {number}?", "Yes, gladly.", f"user#{number % 2}", "heldout", "feedback", (), rejected)


class _Sure:
    """A scorer for which each token costs so many nats."""

    def __init__(self, nats: float) -> None:
        self._nats = nats

    def continuations(self, requests: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        return [(-self._nats * len(answer), False) for _, answer in requests]


def ask(question: Callable[[Any], Any]) -> dict[str, Any]:
    return {who: question(_Sure(nats)) for who, nats in (("base", 2.0), ("tuned", 1.0), ("unigram", 3.0))}


def test_corrections_and_choices_are_two_figures_over_users(form: ChatForm) -> None:
    asked = corrections(form, [said(number) for number in range(8)], CONTEXT)
    chosen = two_answers(form, [said(number, "No.") for number in range(8)], CONTEXT)
    bits, accuracy = feedback_measures(ask, OfUsers(True, asked, chosen))
    assert (bits.name, bits.metric, accuracy.name, accuracy.metric) == (
        "feedback",
        "bits_per_byte",
        "feedback",
        "accuracy",
    )
    assert (bits.amounts["base"] == 2 * bits.amounts["tuned"]).all() and bits.weights.tolist() == [12.0] * 8
    for measure in (bits, accuracy):
        assert {item.document for item in measure.items} == {"user#0", "user#1"}
    assert accuracy.amounts["tuned"].tolist() == [0.0] * 8, "the longer answer is never the likelier one here"


def test_too_few_of_them_are_no_figure_and_it_is_said(form: ChatForm) -> None:
    few = corrections(form, [said(number) for number in range(7)], CONTEXT)
    assert feedback_measures(ask, OfUsers(True, few, [])) == []
    lines = missing_feedback({"bits_per_byte": 7, "accuracy": 9})
    assert {(line.figure, line.items, line.value) for line in lines} == {("feedback/bits_per_byte", 7, None)}
    (notice,) = feedback_notices({"bits_per_byte": 7, "accuracy": 0})
    assert "7 corrections and 0 preferences" in notice and "collect.feedback.heldout_users" in notice
    assert feedback_notices({"bits_per_byte": 8, "accuracy": 0}) == [] == feedback_notices({})


def test_a_correction_that_does_not_fit_is_not_asked(form: ChatForm) -> None:
    long = Pair.of("Why?", "long " * 80, "user#1", "heldout", "feedback")
    assert [one.pair.prompt for one in corrections(form, [long, said(1)], CONTEXT)] == ["Will you 1?"]


def test_corrections_that_are_learned_are_measured_one_by_one_however_few(form: ChatForm) -> None:
    taught = corrections(form, [said(number) for number in range(3)], CONTEXT)
    (learned,) = feedback_measures(ask, OfUsers(True, [], [], taught))
    assert (learned.name, learned.metric) == ("learned_feedback", "bits_per_byte")
    assert len({item.document for item in learned.items}) == 3
