"""Confidences are those of one window at a time, for every token after the first."""

import numpy as np
import pytest
import torch

from model.calibration import next_token_confidences
from model.shape import Shape
from model.transformer import Transformer

CONTEXT = 16


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(Shape(50, 2, 32, 2, 1, 16, 48, CONTEXT)).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def ids(length: int) -> list[int]:
    return torch.randint(0, 50, (length,), generator=torch.Generator().manual_seed(length)).tolist()


@pytest.mark.parametrize("budget", [8192, 20])
def test_batched_confidences_equal_those_of_one_window_at_a_time(model: Transformer, budget: int) -> None:
    documents = [ids(length) for length in (2, 40, 17, 16, 5, 33, 1)]
    shown = []
    found = next_token_confidences(model, documents, budget, lambda *done: shown.append(done))
    for document, (confidence, right) in zip(documents, found, strict=True):
        assert len(confidence) == len(right) == len(document) - 1
        for start in range(0, len(document) - 1, CONTEXT):
            window = torch.tensor([document[start : start + CONTEXT + 1]])
            highest, tokens = torch.softmax(model.logits(model(window[:, :-1]))[0], dim=-1).max(dim=-1)
            there = slice(start, start + len(tokens))
            assert confidence[there] == pytest.approx(highest.numpy(), rel=1e-4)
            assert right[there].tolist() == (tokens == window[0, 1:]).tolist()
    assert shown[-1] == (9, 9)


def test_a_uniform_model_is_as_sure_of_each_token_as_of_any(model: Transformer) -> None:
    model.model.embed_tokens.weight.zero_()
    ((confidence, _),) = next_token_confidences(model, [ids(30)])
    assert np.allclose(confidence, 1 / 50)
