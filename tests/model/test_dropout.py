"""Dropout: transformers' GPT-2 in the same places, what it leaves out is the step's and the row's alone, and a killed
training ends with the same bits."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainer_process import SHAPE, curve, kill_and_resume, make_job, run_to_end, weights, write_walks

from model.batches import Batch
from model.dropout import Kept, Noise, with_noise
from model.huggingface import config_of, read_shape, shape_of
from model.job import TrainingJob
from model.loss import hidden_states, target_nats
from model.parallel import Workers, add_gradients
from model.shape import Dropout, Shape
from model.transformer import Transformer, load_model, save_model
from storage.errors import ConfigError

GPT2 = Shape(61, 2, 32, 2, 2, 16, 48, 32, family="gpt2", norm_epsilon=1e-5)
RATES = Dropout(embeddings=0.1, residual=0.2, attention=0.3)
SHAPES = {
    "qwen3": dataclasses.replace(GPT2, family="qwen3", key_value_heads=1),
    "gpt2": GPT2,
    "eurobert": dataclasses.replace(GPT2, family="eurobert"),
}


def scattered(shape: Shape) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(shape)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def a_batch(rows: int = 6, segments: bool = False) -> Batch:
    ids = np.random.default_rng(0).integers(0, 61, (rows, 25))
    packed = np.repeat([[0] * 10 + [1] * 14], rows, axis=0) if segments else None
    return Batch(ids[:, :-1].copy(), ids[:, 1:].copy(), packed)


def job_of(folder: Path, **changes: Any) -> TrainingJob:
    return make_job(folder, folder, **{"shape": dataclasses.replace(GPT2, dropout=RATES), **changes})


def gradient(model: Transformer, batch: Batch, *, threads: int = 1, micro_batch_tokens: int = 10_000) -> torch.Tensor:
    add_gradients(model, batch, batch.losses, micro_batch_tokens, target_nats, Workers(threads))
    return torch.cat([torch.as_tensor(parameter.grad).flatten() for parameter in model.parameters()])


class LeftOut(torch.nn.Dropout):
    """In the place of a dropout of transformers: leaves out what ours does."""

    def __init__(self, kept: Kept | None) -> None:
        super().__init__()
        assert kept is not None
        self.factors = kept.which * kept.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors


def test_it_is_where_the_gpt2_of_transformers_has_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = dataclasses.replace(GPT2, dropout=RATES)
    save_model(scattered(shape), tmp_path)
    ours = load_model(tmp_path).requires_grad_(True).train()
    own_module = {"attn_implementation": "eager", "reorder_and_upcast_attn": True}  # for the shares of attention
    judge = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **own_module).float().train()
    first = judge.transformer.h[0]
    places = [judge.transformer.drop, first.attn.attn_dropout, first.attn.resid_dropout, first.mlp.dropout]
    assert [place.p for place in places] == [0.1, 0.3, 0.2, 0.2], "the values of our config.json are theirs"

    batch = with_noise(a_batch(), job_of(tmp_path), 7)
    noise, ids = batch.noise, torch.from_numpy(batch.inputs)
    assert noise is not None
    like = torch.empty(*ids.shape, shape.width)
    judge.transformer.drop = LeftOut(noise.in_embeddings(like))
    for layer, block in enumerate(judge.transformer.h):
        kept = noise.in_block(layer, like, shape.heads)
        block.attn.attn_dropout, block.attn.resid_dropout = LeftOut(kept.shares), LeftOut(kept.mixed)
        block.mlp.dropout = LeftOut(kept.fed_forward)
    found = ours.logits(hidden_states(ours, batch))
    expected = judge(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    targets = torch.from_numpy(batch.targets).flatten()
    for logits in (found, expected):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).backward()
    for name, theirs in (("embed_tokens", judge.transformer.wte), ("embed_positions", judge.transformer.wpe)):
        mine = getattr(ours.model, name).weight.grad
        torch.testing.assert_close(mine, theirs.weight.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_it_leaves_out_the_share_and_keeps_the_mean(rate: float) -> None:
    noise = Noise(Dropout(residual=rate), np.arange(64))
    kept = noise.in_block(0, torch.empty(64, 20, 100), 1).mixed
    assert kept is not None
    numbers = 64 * 20 * 100
    share = float(kept.which.double().mean())
    assert abs(share - (1 - rate)) < 5 * (rate * (1 - rate) / numbers) ** 0.5  # false once in two million
    assert share * kept.scale == pytest.approx(1, abs=0.01)
    others = noise.in_block(0, torch.empty(64, 20, 100), 1).fed_forward, noise.in_block(1, kept.which, 1).mixed
    assert all(other is not None and not torch.equal(other.which, kept.which) for other in others), "nor places"
    rows = kept.which.flatten(1).double()
    assert float((torch.corrcoef(rows) - torch.eye(64)).abs().max()) < 6 / 2000**0.5, "rows are not alike"


@pytest.mark.parametrize("segments", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("family", SHAPES)
def test_threads_and_parts_leave_out_the_same(family: str, segments: bool, tmp_path: Path) -> None:
    model, job = scattered(SHAPES[family]), job_of(tmp_path)
    batch = a_batch(segments=segments)
    noisy = with_noise(batch, job, 3)
    whole = gradient(model, noisy)
    for threads, micro_batch_tokens in ((1, 48), (2, 10_000), (2, 24)):
        other = gradient(model, with_noise(batch, job, 3), threads=threads, micro_batch_tokens=micro_batch_tokens)
        torch.testing.assert_close(other, whole, atol=1e-5, rtol=1e-3)
    assert torch.equal(gradient(model, noisy), whole)
    for changed in (with_noise(batch, job, 4), with_noise(batch, dataclasses.replace(job, seed=2), 3)):
        assert (gradient(model, changed) - whole).abs().max() > 1e-3
    assert with_noise(batch, dataclasses.replace(job, dropout=0.0), 3) is batch, "a setting says it before the shape"


def test_a_model_that_is_measured_or_teaches_leaves_out_nothing(tmp_path: Path) -> None:
    model = scattered(GPT2).eval()
    batch = with_noise(a_batch(), job_of(tmp_path), 1)
    with torch.no_grad():
        assert torch.equal(hidden_states(model, batch), hidden_states(model, a_batch()))
        model.train()
        assert not torch.allclose(hidden_states(model, batch), hidden_states(model, a_batch()))


@pytest.mark.parametrize(
    ("family", "said", "rates"),
    [
        ("gpt2", {"embd_pdrop": 0.1, "resid_pdrop": 0.2, "attn_pdrop": 0}, Dropout(0.1, 0.2, 0.0)),
        ("gpt2", {"embd_pdrop": None}, "embd_pdrop is None, not a number from 0 to less than 1"),
        ("gpt2", {"attn_pdrop": 1.0}, "attn_pdrop is 1.0, not a number"),
        ("qwen3", {"attention_dropout": 0.25}, Dropout(attention=0.25)),
        ("qwen3", {"attention_dropout": "much"}, "attention_dropout is 'much', not a number"),
    ],
)
def test_config_json_says_it(family: str, said: dict[str, Any], rates: Dropout | str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(SHAPES[family]) | said))
    if isinstance(rates, str):
        with pytest.raises(ConfigError) as caught:
            read_shape(tmp_path)
        assert rates in str(caught.value)
    else:
        shape = read_shape(tmp_path)
        assert shape.dropout == rates and shape_of(config_of(shape)) == shape
    plain = {name: value for name, value in config_of(GPT2).items() if not name.endswith("_pdrop")}
    assert shape_of(plain).dropout == Dropout(0.1, 0.1, 0.1), "what transformers takes where nothing is said"


@pytest.mark.slow
@pytest.mark.usefixtures("untouched_process")
def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """The rates are those of the shape; evaluation is not touched by them, and training is."""
    tokens = write_walks(tmp_path)
    shape = dataclasses.replace(SHAPE, family="gpt2", key_value_heads=2, norm_epsilon=1e-5, dropout=RATES)
    whole, killed, without = (
        make_job(tokens, tmp_path / name, shape=shape, dropout=rate)
        for name, rate in (("whole", None), ("killed", None), ("without", 0.0))
    )
    run_to_end(whole)
    kill_and_resume(killed, 20)
    assert weights(killed) == weights(whole) and curve(killed) == curve(whole)
    assert read_shape(Path(whole.output)) == shape
    run_to_end(without)
    assert weights(without) != weights(whole)
