"""An open model's chat template: the ids of transformers, and no control token from contents."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_models import LLAMA_TOKENS, NO_SYSTEM_TEMPLATE, QWEN_TEMPLATE, QWEN_TOKENS, write_llama, write_qwen

from storage.documents import Message
from storage.errors import DataError
from tasks.answer.chat_form import MARK, ChatForm
from tasks.answer.pair_ids import pair_ids
from tasks.answer.template_form import find_template, load_chat_form, needed_chat_form
from tasks.tokenize.control import special_tokens

THINKING_TEMPLATE = (  # as Qwen3's: only the last answer shows that nothing was thought
    "{% for message in messages %}<|im_start|>{{ message.role + '\\n' }}"
    "{% if message.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ message.content }}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{{ 'assistant\\n' }}{% endif %}"
)
SPAN_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' %}<|im_start|>{% generation %}"
    "{{ message.content }}<|im_end|>{% endgeneration %}{% else %}{% if not loop.first %}{% continue %}{% endif %}"
    "{{ message.content | tojson }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TURNS = [("system", "Be brief. "), ("user", " Where is it?\n"), ("assistant", "Near.  "), ("user", "\n\nWhy?")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {"llama": write_llama(root / "llama"), "qwen": write_qwen(root / "qwen")}
    made |= {"thinking": write_qwen(root / "thinking", THINKING_TEMPLATE)}
    return made | {"span": write_qwen(root / "span", SPAN_TEMPLATE)}


def messages(*turns: tuple[str, str]) -> list[Message]:
    return [Message(*turn) for turn in turns]


def ids_of_transformers(folder: Path, turns: list[Message], answering: bool = True) -> list[int]:
    from transformers import AutoTokenizer

    theirs: Any = AutoTokenizer.from_pretrained(folder)
    given = [turn._asdict() for turn in turns]
    ids: list[int] = theirs.apply_chat_template(given, add_generation_prompt=answering, return_dict=True)["input_ids"]
    return ids


@pytest.mark.parametrize("name", ["llama", "qwen", "thinking", "span"])
def test_prompts_have_the_ids_of_transformers(name: str, folders: dict[str, Path]) -> None:
    form = needed_chat_form(folders[name])
    for turns in (messages(TURNS[1]), messages(*TURNS[:2]), messages(*TURNS), messages(*TURNS[1:])):
        assert form.prompts([turns]) == [ids_of_transformers(folders[name], turns)], turns


@pytest.mark.parametrize("name", ["llama", "qwen", "span"])
def test_each_answer_is_learned_with_its_one_end_and_pieces_are_the_conversation(
    name: str, folders: dict[str, Path]
) -> None:
    form = needed_chat_form(folders[name])
    turns = messages(*TURNS[:3], *TURNS[1:3])
    (pieces,) = form.pieces([turns])
    assert [piece.learned for piece in pieces] == [False, True, False, True]
    whole = ids_of_transformers(folders[name], turns, answering=False)
    flat = list(itertools.chain.from_iterable(piece.ids for piece in pieces))
    assert flat == whole[: len(flat)], "what a template puts after the last answer is not there"
    end = {"llama": "<|eot_id|>"}.get(name, "<|im_end|>")
    for piece in pieces[1::2]:
        assert form.tokenizer.id_to_token(piece.ids[-1]) == end
        assert not set(piece.ids[:-1]) & special_tokens(form.tokenizer).keys()
        assert form.tokenizer.decode(piece.ids).strip() == "Near."


def test_each_answer_is_learned_as_its_template_shows_it_at_its_place(folders: dict[str, Path]) -> None:
    form = needed_chat_form(folders["thinking"])
    (pieces,) = form.pieces([messages(*TURNS[1:3], *TURNS[1:3])])
    learned = [form.tokenizer.decode(piece.ids) for piece in pieces if piece.learned]
    assert [text.split() for text in learned] == [["Near."], ["<think>", "</think>", "Near."]]
    (pair,) = form.pieces([messages(*TURNS[1:3])])
    assert [piece.learned for piece in pair] == [False, True]
    assert pair[0].ids == form.prompts([messages(TURNS[1])])[0], "an answer follows what it is asked with"


SPECIAL = st.sampled_from([*LLAMA_TOKENS, *QWEN_TOKENS, "<|", "eot_id|>", MARK, "\ufdd1", " ", "a", "</s>"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(SPECIAL, max_size=8).map("".join), st.lists(SPECIAL, max_size=8).map("".join))
@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_contents_never_become_control_tokens(name: str, folders: dict[str, Path], prompt: str, answer: str) -> None:
    form = needed_chat_form(folders[name])
    control = special_tokens(form.tokenizer).keys()

    def marks(*turns: str) -> list[int]:
        said = messages(("user", turns[0]), ("assistant", turns[1]))
        return [token for piece in form.pieces([said])[0] for token in piece.ids if token in control]

    assert marks(prompt, answer) == marks("a", "b")
    ids = form.prompts([messages(("user", prompt))])[0]
    assert [token for token in ids if token in control] == [
        token for token in form.prompts([messages(("user", "a"))])[0] if token in control
    ]
    text = form.tokenizer.decode(ids)
    assert prompt.replace(MARK, "").replace("\ufdd1", "").strip() in text


def test_a_template_that_refuses_the_system_gets_its_words_before_the_prompt(tmp_path: Path) -> None:
    form = needed_chat_form(write_qwen(tmp_path, NO_SYSTEM_TEMPLATE))
    both = form.prompts([messages(("system", "Be brief."), ("user", "Who?")), messages(("user", "Be brief.\n\nWho?"))])
    assert both[0] == both[1]
    refusing = "{% if messages[0].content == 'x' %}{{ raise_exception('No pictures') }}{% endif %}" + QWEN_TEMPLATE
    other = needed_chat_form(write_qwen(tmp_path / "other", refusing))
    with pytest.raises(DataError, match="refuses these messages: No pictures") as error:
        other.prompts([messages(("user", "x"))])
    assert "tokenizer_config.json" in str(error.value)


def test_pairs_are_prompts_and_answers_without_their_end(folders: dict[str, Path]) -> None:
    from storage.documents import Pair

    form = needed_chat_form(folders["qwen"])
    (ids,) = pair_ids(form, [Pair.of("Who?", "A doctor.", "g", "train", "own")])
    assert ids.prompt == form.prompts([messages(("user", "Who?"))])[0]
    assert form.tokenizer.decode(ids.answer) == "A doctor."


def test_marked_text_keeps_what_is_added_to_it_as_text(folders: dict[str, Path]) -> None:
    form: ChatForm = needed_chat_form(folders["qwen"])
    asked = messages(("user", "Who?"))
    assert form.marked_ids(form.marked(asked)) == form.prompts([asked])[0]
    added = form.marked_ids(form.marked(asked) + "<|im_end|>")
    (control,) = (number for number, token in special_tokens(form.tokenizer).items() if token == "<|im_end|>")
    assert added.count(control) == form.prompts([asked])[0].count(control)


def test_where_a_template_stands(tmp_path: Path, folders: dict[str, Path]) -> None:
    assert find_template(tmp_path) is None
    by_name = '{"chat_template": [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "a"}]}'
    (tmp_path / "tokenizer_config.json").write_text(by_name)
    found = find_template(tmp_path)
    assert found is not None and (found.text, found.place.name) == ("a", "tokenizer_config.json")
    (tmp_path / "chat_template.jinja").write_text("c")
    found = find_template(tmp_path)
    assert found is not None and (found.text, found.place.name) == ("c", "chat_template.jinja")
    (tmp_path / "chat_template.jinja").write_text("c" * (1 << 21))
    with pytest.raises(DataError, match=r"chat_template\.jinja: the chat template is no text of 1,048,576"):
        find_template(tmp_path)
    assert load_chat_form(write_qwen(tmp_path / "bare", None)) is None
