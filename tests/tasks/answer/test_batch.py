"""Answers made beside each other are those that each prompt has alone."""

import json
import random
from pathlib import Path

import pytest
from support import shared_data
from tiny_model import make_text, write_model, write_tokenizer

from model.parallel import Workers, one_thread
from storage.documents import Message
from tasks.answer.batch import GROUP, Asked, Said, answers, answers_and_endings
from tasks.answer.chat_form import ChatForm
from tasks.answer.stream import Answer, Sampling
from tasks.answer.template_form import needed_chat_form
from tasks.evaluate.lm_eval.backend import Prompt, asked_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    write_tokenizer(folder)
    write_model(folder, seed=4, context_length=512)
    return folder


def alone(folder: Path, form: ChatForm, asked: list[Asked]) -> list[Said]:
    from model.transformer import load_model

    model, found = load_model(folder), []
    with one_thread():
        for one in asked:
            answer = Answer(model, form.tokenizer, one.ids, one.sampling, form.control.ends)
            text = "".join(answer)
            assert answer.finish in ("stop", "length")
            found.append(Said(text, len(answer.tokens), "stop" if answer.finish == "stop" else "length"))
    return found


def together(folder: Path, form: ChatForm, asked: list[Asked], threads: int = 1) -> list[Said]:
    from model.transformer import load_model

    workers = Workers(threads)
    heard: list[tuple[int, int]] = []
    try:
        with one_thread():
            model = load_model(folder)
            found = answers_and_endings(
                model, form.tokenizer, asked, form.control.ends, workers, lambda done, all_: heard.append((done, all_))
            )
    finally:
        workers.close()
    assert [total for _, total in heard] == [len(asked)] * -(-len(asked) // GROUP) and heard[-1][0] == len(asked)
    return found


def test_each_is_what_it_is_alone(folder: Path) -> None:
    form, chance = needed_chat_form(folder), random.Random(3)
    asked = []
    for seed in range(GROUP + 12):
        ids = form.prompts([[Message("user", make_text(seed, chance.randint(1, 4)))]])[0][-100:]
        chosen = chance.choice([Sampling(6), Sampling(6, stop=("e", "he")), Sampling(4, 0.9, 0.8, seed)])
        asked.append(Asked(ids, chosen))
    asked += [Asked(asked[0].ids, Sampling(6, beams=3, no_repeat=2, stop=stop)) for stop in ((), ("e", "o", "a"))]
    expected = alone(folder, form, asked)
    assert len({said.text for said in expected}) > 20, "they differ"
    assert {said.ending for said in expected} == {"stop", "length"}
    assert together(folder, form, asked, threads=2) == expected


def gsm8k(rows: list[dict[str, str]], number: int) -> list[str]:
    """Prompts in the form of lm-eval's gsm8k: solved examples, then a question."""
    shots = "\n\n".join(f"Question: {row['question']}\nAnswer: {row['answer']}" for row in rows[:1])
    return [f"{shots}\n\nQuestion: {row['question']}\nAnswer:" for row in rows[1 : number + 1]]


@pytest.mark.parametrize("own", [True, False])
def test_questions_in_gsm8k_s_form(folder: Path, own: bool) -> None:
    if own:
        rows = [
            {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>\n#### {2 * n}"}
            for n in range(13)
        ]
    else:
        lines = shared_data("instruct", "gsm8k_train.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines[:13]]
    form = needed_chat_form(folder)
    prompts = [
        Prompt([0, *form.tokenizer.encode(text).ids][-400:], 24, 0.0, 1.0, 0, ("Question:", "</s>"))
        for text in gsm8k(rows, 12)
    ]
    asked = asked_of(prompts)
    assert together(folder, form, asked) == alone(folder, form, asked)


def test_no_prompts_and_an_end_at_once(folder: Path) -> None:
    from model.transformer import load_model

    form = needed_chat_form(folder)
    assert answers(load_model(folder), form.tokenizer, [], form.control.ends) == []
    asked = [Asked([0, 5], Sampling(5)), Asked([0, 6], Sampling(5))]
    assert answers(load_model(folder), form.tokenizer, asked, range(360)) == ["", ""]
    ended = answers_and_endings(load_model(folder), form.tokenizer, asked, range(360))
    assert ended == [Said("", 0, "stop")] * 2
