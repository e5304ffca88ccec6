"""Held-out pairs as they are scored: one answer after three prompts, the same for fine-tuning and evaluation."""

import pytest
from tiny_model import write_tokenizer
from tokenizers import Tokenizer

from storage.documents import Pair
from tasks.answer.chat_form import prompt_ids, text_ids
from tasks.answer.pair_ids import pair_ids, questions
from tasks.tokenize.tokenizer import END_OF_TEXT, load_tokenizer

CONTEXT = 64


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer"))["tokenizer"].path)


def pair(prompt: str, answer: str = "An answer.", source: str = "own") -> Pair:
    return Pair.of(prompt, answer, "g", "heldout", source)


def test_a_pair_is_its_prompt_in_chat_form_and_its_answer_without_the_end(tokenizer: Tokenizer) -> None:
    (ids,) = pair_ids(tokenizer, [pair("one <|end|> two")])
    assert ids.prompt == prompt_ids(tokenizer, "one <|end|> two")
    assert [ids.answer] == text_ids(tokenizer, ["An answer."])


def test_another_prompt_is_the_next_one_of_the_same_source(tokenizer: Tokenizer) -> None:
    pairs = [pair("a"), pair("b", source="other"), pair("a", "Again."), pair("c"), pair("d", source="other")]
    asked = questions(tokenizer, pairs, CONTEXT)
    assert [one.pair for one in asked] == pairs
    assert [one.prompt for one in asked] == [prompt_ids(tokenizer, one.prompt) for one in pairs]
    assert [one.other_prompt for one in asked] == [prompt_ids(tokenizer, letter) for letter in "cdcab"]
    assert asked[0].plain_prompt == [END_OF_TEXT, *text_ids(tokenizer, ["a\n"])[0]]


def test_who_has_no_other_is_asked_with_his_own(tokenizer: Tokenizer) -> None:
    """Evaluation leaves such a pair out; fine-tuning on a single pair is still scored."""
    (alone,) = questions(tokenizer, [pair("a")], CONTEXT)
    assert alone.other_prompt == alone.prompt


def test_what_does_not_fit_is_neither_asked_nor_borrowed(tokenizer: Tokenizer) -> None:
    nearly = pair("!" * 50, "!!")  # fits before its own answer, not before a longer one
    long = [pair("!" * 80), pair("a", "!" * 30), pair("b"), pair("c", "")]
    asked = questions(tokenizer, [*long, nearly], CONTEXT)
    assert [one.pair.prompt for one in asked] == ["a", "b", nearly.prompt]
    assert asked[0].other_prompt == prompt_ids(tokenizer, "b"), "the next one that leaves room for the answer"
    for one in asked:
        for prompt in (one.prompt, one.other_prompt, one.plain_prompt):
            assert len(prompt) + len(one.answer) <= CONTEXT + 1
