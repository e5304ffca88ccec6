"""lm-eval asks an open model in its own form: its chat template, its own mark before each text, its own ends."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from open_models import write_llama, write_qwen

from storage.documents import Message
from tasks.answer.batch import answers
from tasks.answer.chat_form import ChatForm
from tasks.answer.template_form import needed_chat_form
from tasks.evaluate.lm_eval.backend import Prompt, Request, asked_of, scorer_lm
from tasks.tokenize.tokenizer import text_ids

WRITERS = {"llama": write_llama, "qwen": write_qwen}


@pytest.fixture(scope="module", params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp("open") / "model")


@pytest.fixture(scope="module")
def form(folder: Path) -> ChatForm:
    return needed_chat_form(folder)


def ids_of(form: ChatForm, text: str) -> list[int]:
    return text_ids(form.tokenizer, [text])[0]


def test_requests_begin_as_the_model_has_seen_them(form: ChatForm) -> None:
    asked: list[Request] = []

    def score(requests: Sequence[Request]) -> list[tuple[float, bool]]:
        asked.extend(requests)
        return [(0.0, True)] * len(requests)

    lm = scorer_lm(lambda text: ids_of(form, text), score, 64, start=form.control.start, form=form)
    assert lm.eot_token_id == form.control.start
    chat = lm.apply_chat_template([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}])
    prompt = form.prompts([[Message("system", "Be brief."), Message("user", "Who?")]])[0]
    pairs = [("The quiet", " castle"), (chat, "I."), ("", "alone")]
    lm.loglikelihood([SimpleNamespace(args=pair) for pair in pairs])
    assert [context for context, _ in asked] == [
        [form.control.start, *ids_of(form, "The quiet")],
        prompt,
        [form.control.start],
    ]
    asked.clear()
    lm.loglikelihood_rolling([SimpleNamespace(args=("The quiet castle",))])
    assert asked[0][0] == [form.control.start]


def test_an_answer_ends_where_the_model_ends_it(form: ChatForm, folder: Path) -> None:
    """A model that can only say the end of a turn says nothing."""
    import torch

    from model.transformer import load_model

    model = load_model(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        model.model.embed_tokens.weight[:] = -1.0
        model.model.embed_tokens.weight[form.end] = -3.0
    ids = form.prompts([[Message("user", "Who?")]])[0]
    assert answers(model, form.tokenizer, asked_of([Prompt(ids, 8, 0.0, 1.0, 0, ())]), form.control.ends) == [""]
