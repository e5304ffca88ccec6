"""The chunked loss is cross-entropy: same value, same gradients, whatever is masked."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from model import loss
from model.batches import IGNORED
from model.loss import compared_cross_entropy, cross_entropy, spans, summed_nats


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 50, 16, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(97, 16, generator=generator).requires_grad_()
    targets = torch.randint(0, 97, (3, 50), generator=generator)
    return hidden, head, targets


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradients_equal_the_plain_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, chunk: int, masked: bool
) -> None:
    monkeypatch.setattr(loss, "CHUNK_TOKENS", chunk)
    hidden, head, targets = inputs()
    if masked:
        targets[torch.rand(3, 50, generator=torch.Generator().manual_seed(1)) < 0.4] = IGNORED
    plain = F.cross_entropy((hidden @ head.T).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    expected = torch.autograd.grad(plain / 7, [hidden, head])
    ours = summed_nats(hidden, head, targets)
    actual = torch.autograd.grad(ours / 7, [hidden, head])
    assert torch.allclose(ours, plain, rtol=1e-5)
    for ours_gradient, plain_gradient in zip(actual, expected, strict=True):
        assert torch.allclose(ours_gradient, plain_gradient, atol=1e-5)


@pytest.mark.parametrize("form", [cross_entropy, compared_cross_entropy])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_both_forms_are_exact_but_for_the_last_rounding(
    form: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype, rounding: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(300, 512, generator=generator) * 4).to(dtype)
    chosen = torch.randint(0, 512, (300, 1), generator=generator)
    exact = torch.log_softmax(scores.double(), dim=-1)
    expected = exact.exp().scatter_add_(1, chosen, -torch.ones(300, 1, dtype=torch.float64))
    nats, gradient = form(scores.clone(), chosen)
    assert float(nats) == pytest.approx(float(-exact.gather(1, chosen).sum()), rel=1e-5)
    assert torch.allclose(gradient.double(), expected, rtol=rounding, atol=1e-6)


def test_the_gradient_of_a_class_that_is_all_but_certain_is_no_less_exact() -> None:
    """In bfloat16 its share rounds to 1, and 1 taken from that would leave nothing."""
    scores = torch.zeros(1, 512, dtype=torch.bfloat16)
    scores[0, 7] = 14.0
    left = -math.expm1(14.0 - math.log(math.exp(14.0) + 511))
    nats, gradient = cross_entropy(scores, torch.tensor([[7]]))
    assert float(gradient[0, 7]) == pytest.approx(-left, rel=0.01)
    assert float(nats) == pytest.approx(-math.log1p(-left), rel=0.01)


@pytest.mark.parametrize("largest", [1, 8, 256])
def test_spans_cover_every_row_once_in_few_sizes(largest: int) -> None:
    sizes = set()
    for length in range(600):
        cut = list(spans(length, largest))
        assert [row for start, stop in cut for row in range(start, stop)] == list(range(length))
        sizes |= {stop - start for start, stop in cut}
    assert sizes == {1 << k for k in range(largest.bit_length())}


def test_nothing_to_predict_costs_nothing_and_gives_zero_gradients() -> None:
    hidden, head, targets = inputs()
    nats = summed_nats(hidden, head, torch.full_like(targets, IGNORED))
    assert float(nats.detach()) == 0.0
    assert all(not gradient.any() for gradient in torch.autograd.grad(nats, [hidden, head]))


def test_scores_far_apart_stay_exact() -> None:
    """exp underflows here: a loss taken as -log of the probability would be infinite."""
    hidden = torch.tensor([[[1000.0]]])
    head = torch.tensor([[1.0], [0.0]])
    assert float(summed_nats(hidden, head, torch.tensor([[1]]))) == 1000.0


def test_bfloat16_is_close() -> None:
    hidden, head, targets = inputs(torch.bfloat16)
    plain = F.cross_entropy((hidden.float() @ head.T).flatten(0, 1), targets.flatten(), reduction="sum")
    assert math.isclose(float(summed_nats(hidden, head, targets).detach()), float(plain.detach()), rel_tol=0.02)
