"""Examples in one row see themselves alone: the same loss and gradients as in rows of their own, in fewer rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.batches import IGNORED, PADDING, Batch, Example, ExampleBatches, ExampleSet
from model.loss import target_nats
from model.parallel import Workers, add_gradients
from model.shape import Shape
from model.transformer import Transformer

CONTEXT = 29  # no multiple of what rows are padded to
SHAPES = {
    "qwen3": Shape(61, 2, 32, 2, 1, 16, 48, CONTEXT),
    "gpt2": Shape(61, 2, 32, 2, 2, 16, 48, CONTEXT, family="gpt2", norm_epsilon=1e-5),
}


def examples(folder: Path, count: int = 24) -> ExampleSet:
    """Of lengths up to two thirds of the context, some with an answer in the middle of the prompt."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        prompt, answer = int(random.integers(3, 12)), int(random.integers(1, 9))
        ids = random.integers(4, 61, prompt + answer).tolist()
        learned = ((1, 3),) if number % 3 == 0 else ()
        made.append(Example(ids[:prompt], ids[prompt:], answer, learned))
    ExampleSet.write(folder, made)
    return ExampleSet(folder)


def model_of(family: str) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(SHAPES[family])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def nats(model: Transformer, batch: Batch) -> torch.Tensor:
    return target_nats(model, batch)


def test_every_answer_of_an_example_is_a_target(tmp_path: Path) -> None:
    ExampleSet.write(tmp_path, [Example([0, 1, 5, 2, 6, 3, 1, 5, 2], [7, 3], 2, [(4, 6)])])
    found = ExampleSet(tmp_path)
    batch = found.batch(np.array([0]))
    assert [int(one) for one in batch.targets[0] if one != IGNORED] == [6, 3, 7, 3]
    assert batch.targets[0, 3:5].tolist() == [6, 3] and batch.valid == 4
    assert found.requests() == [([0, 1, 5, 2, 6, 3, 1, 5, 2], [7, 3])], "the last answer is what is scored"
    assert ExampleBatches(found, 1, 0).bytes_per_token == 2 / 4


def test_a_pack_holds_each_example_once_in_rows_of_the_context(tmp_path: Path) -> None:
    found = examples(tmp_path)
    alone, packed = ExampleBatches(found, 12, 3), ExampleBatches(found, 12, 3, pack_to=CONTEXT)
    for step in range(3):
        one, other = alone.batch(step), packed.batch(step)
        assert other.segments is not None and one.segments is None
        assert len(other.inputs) < len(one.inputs) and other.valid == one.valid
        assert ((other.segments != PADDING).sum(axis=1) <= CONTEXT).all()
        assert sorted(other.targets[other.targets != IGNORED]) == sorted(one.targets[one.targets != IGNORED])
    assert [len(part.segments) for part in other.share(2) if part.segments is not None] == [
        len(part.inputs) for part in other.share(2)
    ]


@pytest.mark.parametrize("family", SHAPES)
def test_a_row_in_a_pack_has_the_same_loss_as_alone(tmp_path: Path, family: str) -> None:
    found, model = examples(tmp_path), model_of(family)
    every = np.arange(len(found))
    own = {number: float(nats(model, found.batch(np.array([number]))).detach()) for number in every}
    packed = found.packed(every, CONTEXT)
    assert packed.segments is not None
    sums = []
    for row in range(len(packed.inputs)):
        for segment in sorted(set(packed.segments[row].tolist()) - {PADDING}):
            targets = np.where(packed.segments[row] == segment, packed.targets[row], IGNORED)[None]
            rows = packed.inputs[row][None], targets, packed.segments[row][None]
            sums.append(float(nats(model, Batch(*rows)).detach()))
    assert sorted(sums) == pytest.approx(sorted(own.values()), rel=1e-5)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(("threads", "micro_batch_tokens"), [(1, 10_000), (2, 64)])
def test_the_gradient_of_a_step_is_that_of_the_same_examples_unpacked(
    tmp_path: Path, family: str, threads: int, micro_batch_tokens: int
) -> None:
    found = examples(tmp_path)
    losses, gradients = [], []
    for pack_to in (None, CONTEXT):
        model = model_of(family)
        batch = ExampleBatches(found, 12, 3, pack_to).batch(0)
        lost = add_gradients(model, batch, max(1, batch.losses), micro_batch_tokens, target_nats, Workers(threads))
        losses.append(float(lost))
        gradients.append(torch.cat([torch.as_tensor(p.grad).flatten() for p in model.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-4)


def test_a_pack_depends_on_the_step_alone(tmp_path: Path) -> None:
    found = examples(tmp_path)
    forward = ExampleBatches(found, 5, 1, CONTEXT)
    batches = [forward.batch(step) for step in range(12)]
    jumped = ExampleBatches(found, 5, 1, CONTEXT)
    for step in (11, 2, 7):
        one, other = jumped.batch(step), batches[step]
        for name in ("inputs", "targets", "segments"):
            assert (getattr(one, name) == getattr(other, name)).all()
