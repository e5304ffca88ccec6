"""Held-out pairs as they are scored: one answer after three prompts, the same for fine-tuning and evaluation."""

from pathlib import Path

import pytest
from open_models import QWEN_TEMPLATE, write_qwen
from tiny_model import write_tokenizer

from storage.documents import ASSISTANT, SYSTEM, TOOL, USER, Message, Pair
from storage.errors import DataError
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


def talk(*texts: str, system: str = "", answer: str = "Last.") -> Pair:
    """A conversation: questions and answers in turn, the last question among them."""
    roles = (USER, ASSISTANT)
    messages = [Message(roles[number % 2], text) for number, text in enumerate(texts)]
    earlier = (*([Message(SYSTEM, system)] if system else []), *messages[:-1])
    return Pair.of(texts[-1], answer, "g", "train", "own", earlier)


def decoded(form: ChatForm, ids: list[int]) -> str:
    return str(form.tokenizer.decode(ids, skip_special_tokens=False))


def test_a_conversation_is_one_row_with_every_answer_and_its_end_learned(form: ChatForm) -> None:
    (ids,) = pair_ids(form, [talk("one", "two", "three", system="Be kind.")])
    assert decoded(form, ids.prompt) == (
        "<|endoftext|><|user|>Be kind.\n\none<|assistant|>two<|end|><|user|>three<|assistant|>"
    )
    assert [decoded(form, ids.prompt[start:end]) for start, end in ids.learned] == ["two<|end|>"]
    assert ids.learned_bytes == 3 and decoded(form, ids.answer) == "Last."


def test_a_system_line_stands_before_a_single_question_too(form: ChatForm) -> None:
    (ids,) = pair_ids(form, [talk("one", system="Be kind.")])
    assert decoded(form, ids.prompt) == "<|endoftext|><|user|>Be kind.\n\none<|assistant|>"


def test_a_conversation_that_its_template_refuses_is_named(tmp_path: Path) -> None:
    refusing = "{% if messages | length > 2 %}{{ raise_exception('One turn only.') }}{% endif %}" + QWEN_TEMPLATE
    form = needed_chat_form(write_qwen(tmp_path, refusing))
    earlier = (Message(USER, "Grüß Gott? " * 20), Message(ASSISTANT, "Servus."))
    talk = Pair.of("How are you?", "Well.", "g", "train", "guests", earlier)
    assert len(pair_ids(form, [pair("Who?"), pair("Why?")])) == 2
    with pytest.raises(DataError) as caught:
        pair_ids(form, [pair("Who?"), talk, pair("Why?")])
    said = str(caught.value)
    assert "the template refuses these messages: One turn only." in said and len(said) < 400 + len(str(tmp_path))
    assert "of source guests: user, assistant, user, assistant; the first asks 'Grüß Gott? Grüß" in said


def test_what_a_tool_gave_back_is_asked_as_a_question_is(form: ChatForm) -> None:
    called = (Message(USER, "one"), Message(ASSISTANT, "call"), Message(TOOL, "4"))
    (ids,) = pair_ids(form, [Pair.of("", "Four.", "g", "train", "own", called)])
    assert decoded(form, ids.prompt) == ("<|endoftext|><|user|>one<|assistant|>call<|end|><|user|>4<|assistant|>")


def test_a_conversation_longer_than_the_context_is_cut_at_a_turn_and_keeps_its_system_line(
    form: ChatForm,
) -> None:
    whole = talk("old " * 20, "older", "one", "two", "three", system="S.")
    (ids,) = pair_ids(form, [whole], CONTEXT)
    assert decoded(form, ids.prompt) == (
        "<|endoftext|><|user|>S.\n\none<|assistant|>two<|end|><|user|>three<|assistant|>"
    )
    assert [message.content for message in ids.pair.asked] == ["S.", "one", "two", "three"]
    assert len(ids.prompt) + len(ids.answer) + 1 <= CONTEXT + 1
    (same,) = pair_ids(form, [whole])
    assert same.pair == whole and len(same.prompt) > CONTEXT
    (question,) = questions(form, [whole], CONTEXT)
    assert question.prompt == ids.prompt
    assert decoded(form, question.plain_prompt) == "<|endoftext|>S.\none\ntwo\nthree\n"


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_it_loses_no_exchange_that_fits(form: ChatForm, spare: int) -> None:
    whole = talk("one", "two", "three")
    (ids,) = pair_ids(form, [whole])
    needed = len(ids.prompt) + len(ids.answer) + 1  # with the mark that ends the answer
    (cut,) = pair_ids(form, [whole], needed - 1 + spare)
    assert len(cut.pair.earlier) == (2 if spare >= 0 else 0)
    assert questions(form, [talk("long " * 80)], CONTEXT) == []
