"""A model that is laid out for decoding says what it said before."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_adapters import FAMILIES, merged, write_adapter, write_base
from test_families import ENCODERS, IDS, SHAPES, scattered
from torch import Tensor

from model.adapter_rows import Adapters
from model.cache import KeyValueCache
from model.decoding import JoinedAttention, JoinedFeedForward, lay_out_for_decoding
from model.int8 import load_int8, save_int8
from model.lora import LowRank
from model.transformer import Transformer, load_model, save_model


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def scores(model: Transformer, ids: Tensor = IDS) -> Tensor:
    return model.logits(model(ids))


@pytest.mark.parametrize("name", SHAPES | ENCODERS)
def test_it_says_what_it_said(name: str) -> None:
    with torch.inference_mode(mode=False):
        model = scattered(Transformer((SHAPES | ENCODERS)[name])).requires_grad_(False)
    before = scores(model)
    lay_out_for_decoding(model)
    assert isinstance(model.model.layers[0].self_attn, JoinedAttention)
    assert isinstance(model.model.layers[1].mlp, JoinedFeedForward) == (name != "gpt2")
    torch.testing.assert_close(scores(model), before, atol=1e-5, rtol=0)
    with torch.enable_grad():  # then by torch's own norm
        torch.testing.assert_close(scores(model), before, atol=1e-5, rtol=0)
    if name in ENCODERS:
        return
    cache = KeyValueCache(model.shape, 2, 50, model.device, torch.float32)
    pieces = [model(IDS[:, a:b], cache) for a, b in [(0, 7), (7, 8), (8, 30)]]
    cache.lengths = [30, 12]  # the second goes on from within
    ragged = model(torch.stack([IDS[0, 30], IDS[1, 12]])[:, None], cache)
    torch.testing.assert_close(model.logits(torch.cat(pieces, dim=1)), before[:, :30], atol=1e-5, rtol=0)
    expected = torch.stack([before[0, 30], before[1, 12]])
    torch.testing.assert_close(model.logits(ragged)[:, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("up_proj",), ()])
def test_adapters_keep_their_maps(targets: tuple[str, ...], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen3")
    with torch.inference_mode(mode=False):
        model = load_model(base)
        adapters = Adapters(model, base)
        adapters.add("own", write_adapter(tmp_path / "own", base, LowRank(4, 6.0, targets)))
    adapters.choose(["own", None])
    before = scores(model)
    lay_out_for_decoding(model)
    torch.testing.assert_close(scores(model), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("k_proj", "up_proj", "down_proj"), ()])
@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_are_put_beside_maps_that_were_joined(name: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", name)
    adapter = write_adapter(tmp_path / "own", base, LowRank(4, 6.0, targets))
    with torch.inference_mode(mode=False):
        model, whole = load_model(base), merged(base, adapter)
    lay_out_for_decoding(model)
    before = scores(model)
    adapters = Adapters(model, base)
    adapters.add("own", adapter)
    adapters.choose(["own", None])
    together = scores(model)
    torch.testing.assert_close(together[0], scores(whole)[0], atol=1e-4, rtol=0)
    assert torch.equal(together[1], before[1])


def test_eight_bits_stay_as_they_are(tmp_path: Path) -> None:
    with torch.inference_mode(mode=False):
        save_model(scattered(Transformer(SHAPES["qwen3"])), tmp_path)
        save_int8(tmp_path, tmp_path / "model.int8.safetensors")
        model = load_int8(tmp_path)
    before = scores(model)
    lay_out_for_decoding(model)
    assert torch.equal(scores(model), before)
