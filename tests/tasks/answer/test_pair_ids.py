"""Held-out pairs as they are scored: one answer after three prompts, the same for fine-tuning and evaluation."""

import pytest
from tiny_model import write_tokenizer

from storage.documents import Pair
from tasks.answer.chat_form import ChatForm, prompt_ids
from tasks.answer.pair_ids import pair_ids, questions
from tasks.answer.template_form import needed_chat_form
from tasks.tokenize.tokenizer import END_OF_TEXT, text_ids

CONTEXT = 64


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> ChatForm:
    return needed_chat_form(write_tokenizer(tmp_path_factory.mktemp("tokenizer"))["tokenizer"].path)


def pair(prompt: str, answer: str = "An answer.", source: str = "own") -> Pair:
    return Pair.of(prompt, answer, "g", "heldout", source)


def test_a_pair_is_its_prompt_in_chat_form_and_its_answer_without_the_end(form: ChatForm) -> None:
    (ids,) = pair_ids(form, [pair("one <|end|> two")])
    assert ids.prompt == prompt_ids(form, "one <|end|> two")
    assert [ids.answer] == text_ids(form.tokenizer, ["An answer."])


def test_another_prompt_is_the_next_one_of_the_same_source(form: ChatForm) -> None:
    pairs = [pair("a"), pair("b", source="other"), pair("a", "Again."), pair("c"), pair("d", source="other")]
    asked = questions(form, pairs, CONTEXT)
    assert [one.pair for one in asked] == pairs
    assert [one.prompt for one in asked] == [prompt_ids(form, one.prompt) for one in pairs]
    assert [one.other_prompt for one in asked] == [prompt_ids(form, letter) for letter in "cdcab"]
    assert asked[0].plain_prompt == [END_OF_TEXT, *text_ids(form.tokenizer, ["a\n"])[0]]


def test_who_has_no_other_is_asked_with_his_own(form: ChatForm) -> None:
    """Evaluation leaves such a pair out; fine-tuning on a single pair is still scored."""
    (alone,) = questions(form, [pair("a")], CONTEXT)
    assert alone.other_prompt == alone.prompt


def test_what_does_not_fit_is_neither_asked_nor_borrowed(form: ChatForm) -> None:
    nearly = pair("!" * 50, "!!")  # fits before its own answer, not before a longer one
    long = [pair("!" * 80), pair("a", "!" * 30), pair("b"), pair("c", "")]
    asked = questions(form, [*long, nearly], CONTEXT)
    assert [one.pair.prompt for one in asked] == ["a", "b", nearly.prompt]
    assert asked[0].other_prompt == prompt_ids(form, "b"), "the next one that leaves room for the answer"
    for one in asked:
        for prompt in (one.prompt, one.other_prompt, one.plain_prompt):
            assert len(prompt) + len(one.answer) <= CONTEXT + 1
