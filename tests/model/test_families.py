"""Open models of other families are the same transformer with other parts: transformers agrees both ways."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.cache import KeyValueCache
from model.huggingface import config_of, read_shape, shape_of
from model.int8 import load_int8, save_int8
from model.shape import Shape
from model.transformer import Transformer, initialise, load_model, save_model
from storage.errors import ConfigError, DataError

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocabulary_size": 300,
    "layers": 2,
    "width": 64,
    "heads": 4,
    "key_value_heads": 2,
    "head_dim": 16,
    "feed_forward": 96,
    "context_length": 64,
}
LLAMA = Shape(**SIZES, family="llama", norm_epsilon=1e-5)
SHAPES = {
    "qwen3": Shape(**SIZES),
    "llama": LLAMA,
    "llama, its own head": dataclasses.replace(LLAMA, tied_embeddings=False, rope_theta=500_000.0),
    "llama 3": dataclasses.replace(
        LLAMA, rope_theta=100.0, rope_factor=8.0, rope_low=1.0, rope_high=4.0, rope_original_context=32
    ),
    "llama, linear": dataclasses.replace(LLAMA, rope_factor=2.0),
    "gpt2": Shape(**SIZES | {"key_value_heads": 4}, family="gpt2", norm_epsilon=1e-5),
}
ENCODERS = {
    "eurobert": dataclasses.replace(LLAMA, family="eurobert", mask_token=7),
    "eurobert, its own head": dataclasses.replace(LLAMA, family="eurobert", mask_token=7, tied_embeddings=False),
    "eurobert, short vectors": dataclasses.replace(LLAMA, family="eurobert", mask_token=7, norm_epsilon=1.0),
}
AUTO = dict.fromkeys(SHAPES, transformers.AutoModelForCausalLM)
AUTO |= dict.fromkeys(ENCODERS, transformers.AutoModelForMaskedLM)
IDS = torch.randint(0, 300, (2, 50), generator=torch.Generator().manual_seed(1))


def scattered(model: torch.nn.Module) -> Any:
    """Large random numbers, so that a wrong detail shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and not name.endswith("bias")
            torch.nn.init.normal_(parameter, mean=0.5 if gain else 0.0, std=0.2)
    return model.eval()


@pytest.mark.parametrize("name", SHAPES | ENCODERS)
def test_what_is_saved_here_computes_the_same_in_transformers(name: str, tmp_path: Path) -> None:
    model = scattered(Transformer((SHAPES | ENCODERS)[name]))
    save_model(model, tmp_path)
    judge = AUTO[name].from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.allclose(model.logits(model(IDS)), judge(IDS).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shard", ["5GB", "40KB"], ids=["one file", "several files"])
@pytest.mark.parametrize("name", SHAPES | ENCODERS)
def test_what_transformers_saves_computes_the_same_here(name: str, shard: str, tmp_path: Path) -> None:
    shape = (SHAPES | ENCODERS)[name]
    config = transformers.AutoConfig.for_model(**config_of(shape))
    judge = scattered(AUTO[name].from_config(config, dtype=torch.float32))
    judge.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "40KB")
    model = load_model(tmp_path)
    assert model.shape == shape
    with torch.no_grad():
        assert torch.allclose(model.logits(model(IDS)), judge(IDS).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_reading_through_the_cache_equals_reading_at_once(name: str) -> None:
    model = scattered(Transformer(SHAPES[name]))
    with torch.no_grad():
        whole = model(IDS)
        cache = KeyValueCache(model.shape, 2, 50, model.device, torch.float32)
        pieces = [model(IDS[:, a:b], cache) for a, b in [(0, 7), (7, 8), (8, 30), (30, 50)]]
        assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)
        cache = KeyValueCache(model.shape, 2, 50, model.device, torch.float32)
        for row, length in enumerate((9, 4)):
            model(IDS[row : row + 1, :length], cache.window(row, [0]))
        ragged = model(torch.stack([IDS[0, 9], IDS[1, 4]])[:, None], cache.window(0, [9, 4]))
    assert torch.allclose(ragged[:, 0], torch.stack([whole[0, 9], whole[1, 4]]), atol=1e-5)


@pytest.mark.parametrize("name", SHAPES | ENCODERS)
def test_a_shape_counts_its_parameters_survives_its_config_and_starts_knowing_nothing(name: str) -> None:
    shape = (SHAPES | ENCODERS)[name]
    model = Transformer(shape)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape_of(json.loads(json.dumps(config_of(shape)))) == shape
    initialise(model, seed=1)
    with torch.no_grad():
        logits = model.logits(model(torch.arange(64)[None]))
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], torch.arange(1, 64))
    assert abs(float(loss) - 5.70) < 0.2  # ln 300


def test_old_files_of_gpt2_have_shorter_names_and_their_masks_beside_them(tmp_path: Path) -> None:
    model = scattered(Transformer(SHAPES["gpt2"]))
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(old, tmp_path / "model.safetensors")
    again = load_model(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model_type": "mamba"}, "models of the type 'mamba' are not known. Known: qwen3, llama, gpt2, eurobert"),
        ({"attention_bias": True}, "llama with attention_bias is not known"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; llama has 'silu' here"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "positions of the type 'yarn' are not known"),
    ],
)
def test_a_model_that_is_not_known_is_refused(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(LLAMA) | changed))
    with pytest.raises(ConfigError) as caught:
        read_shape(tmp_path)
    assert says in str(caught.value)


def test_pickled_weights_and_files_elsewhere_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_of(LLAMA)))
    with pytest.raises(DataError, match=r"no model\.safetensors and no"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"pytorch_model\.bin is pickled, and reading it runs code"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(DataError, match="is not a file of this folder"):
        load_model(tmp_path)


def test_a_format_that_would_be_wrong_is_refused(tmp_path: Path) -> None:
    for name in ("gpt2", "llama"):
        (tmp_path / name).mkdir()
        save_model(scattered(Transformer(SHAPES[name])), tmp_path / name)
    with pytest.raises(ConfigError, match="int8 is for models without biases, this is gpt2"):
        save_int8(tmp_path / "gpt2", tmp_path / "gpt2" / "model.int8.safetensors")
    save_int8(tmp_path / "llama", tmp_path / "llama" / "model.int8.safetensors")
    with torch.no_grad():
        exact, rounded = load_model(tmp_path / "llama"), load_int8(tmp_path / "llama")
        first, second = exact.logits(exact(IDS)), rounded.logits(rounded(IDS))
    assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1] > 0.99
