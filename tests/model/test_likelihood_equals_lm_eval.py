"""Our scores are those of lm-eval's own `hf` backend for the same weights, as transformers loads them."""

import logging
from typing import TYPE_CHECKING

import pytest
import torch
from support import shared_data
from tokenizers import Tokenizer

from benchmarks.bench_requests import arc_easy, blimp, boolq, corpus_texts, lambada, winogrande
from model.likelihood import score_continuations, score_documents
from model.shape import Shape
from model.transformer import Transformer, save_model
from storage.tokens import END_OF_TEXT
from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = Shape(1024, 2, 64, 4, 2, 16, 128, 256)  # passages of BoolQ and LAMBADA exceed the context
CASES = {
    "blimp": lambda bench, encode: blimp(bench, encode, 2),
    "arc_easy 0-shot": lambda bench, encode: arc_easy(bench, encode, 40, 0),
    "arc_easy 5-shot": lambda bench, encode: arc_easy(bench, encode, 12, 5),
    "winogrande": lambda bench, encode: winogrande(bench, encode, 60),
    "boolq": lambda bench, encode: boolq(bench, encode, 30),
    "lambada": lambda bench, encode: lambada(bench, encode, 30),
}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return corpus_texts(shared_data("corpus", "stories_en.jsonl.zst"), 200_000)


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    return learn(TokenizerConfig(vocabulary_size=SHAPE.vocabulary_size), texts)


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPE).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.15)
    return model


@pytest.fixture(scope="module")
def backend(model: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> "HFLM":
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder)
    save_tokenizer(tokenizer, folder)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)


@pytest.mark.parametrize("case", CASES)
def test_answers_and_accuracies_are_those_of_the_hf_backend(
    case: str, model: Transformer, backend: "HFLM", tokenizer: Tokenizer
) -> None:
    questions = CASES[case](shared_data("bench"), lambda text: tokenizer.encode(text).ids)
    asked = questions.requests
    ours = score_continuations(model, asked)
    theirs = backend._loglikelihood_tokens([(("", ""), *request) for request in asked], disable_tqdm=True)
    for (nats, greedy), (expected, expected_greedy) in zip(ours, theirs, strict=True):
        assert nats == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy
    assert questions.accuracy(ours) == questions.accuracy(theirs)
    assert len({round(nats, 2) for nats, _ in ours}) > len(asked) / 4  # answers that differ were compared


def test_documents_by_disjoint_windows_are_those_of_rolling_requests(
    model: Transformer, backend: "HFLM", texts: list[str], tokenizer: Tokenizer
) -> None:
    """lm-eval's windows do not overlap, but for the last, which is filled up: ours with a stride of a whole context."""
    from lm_eval.api.instance import Instance

    chosen = [text[:2_500] for text in texts[:12]]
    documents = [[END_OF_TEXT, *tokenizer.encode(text).ids] for text in chosen]
    assert max(map(len, documents)) > 2 * SHAPE.context_length
    nats = score_documents(model, documents, stride=SHAPE.context_length)
    rolling = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in chosen]
    for document, lost, expected in zip(documents, nats, backend.loglikelihood_rolling(rolling, True), strict=True):
        assert lost == pytest.approx(-expected, abs=1e-5 * len(document))
