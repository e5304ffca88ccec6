"""The model is Qwen3: transformers, the judge, agrees on the logits, and the cache changes nothing."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from model.cache import KeyValueCache
from model.huggingface import config_of, shape_of
from model.shape import SIZES, Shape
from model.transformer import Transformer, initialise, load_model, save_model
from storage.errors import ConfigError, DataError

GROUPED = Shape(
    vocabulary_size=300, layers=2, width=64, heads=4, key_value_heads=2, head_dim=16, feed_forward=96, context_length=64
)
UNTIED = Shape(
    vocabulary_size=300,
    layers=2,
    width=48,
    heads=3,
    key_value_heads=3,
    head_dim=32,
    feed_forward=64,
    context_length=64,
    rope_theta=1e6,
    tied_embeddings=False,
)


def random_model(shape: Shape) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(shape)
    for parameter in model.parameters():  # large and with every gain off 1, so that a wrong detail shows
        torch.nn.init.normal_(parameter, mean=0.3 if parameter.ndim == 1 else 0.0, std=0.2)
    return model.eval()


@pytest.mark.parametrize("shape", [GROUPED, UNTIED], ids=["grouped and tied", "untied"])
def test_logits_equal_those_of_transformers_from_the_saved_folder(shape: Shape, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = random_model(shape)
    save_model(model, tmp_path)
    judge = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, shape.vocabulary_size, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.logits(model(ids)), judge(ids).logits, atol=1e-5, rtol=0)


def test_reading_piece_by_piece_through_the_cache_equals_reading_at_once() -> None:
    model = random_model(GROUPED)
    ids = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model(ids)
        cache = KeyValueCache(GROUPED, 3, 40, model.device, torch.float32)
        pieces = [model(ids[:, a:b], cache) for a, b in [(0, 7), (7, 20), (20, 21), (21, 22), (22, 40)]]
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)


def test_saving_is_deterministic_and_loading_gives_the_same_model(tmp_path: Path) -> None:
    model = Transformer(GROUPED)
    initialise(model, seed=3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert (tmp_path / "a/model.safetensors").stat().st_mode & 0o777 == 0o644
    again = load_model(tmp_path / "a")
    assert again.shape == GROUPED
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_initial_weights_depend_on_the_seed_alone_and_a_new_model_knows_nothing() -> None:
    first, second, other = (Transformer(GROUPED) for _ in range(3))
    torch.manual_seed(5)
    initialise(first, seed=1)
    torch.manual_seed(6)
    initialise(second, seed=1)
    initialise(other, seed=2)
    assert torch.equal(first.head, second.head)
    assert not torch.equal(first.head, other.head)
    with torch.no_grad():
        logits = first.logits(first(torch.arange(64)[None]))
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], torch.arange(1, 64))
    assert abs(float(loss) - 5.70) < 0.2  # ln 300


def test_with_a_large_epsilon_a_short_vector_stays_short() -> None:
    """At first embeddings have deviation 0.02 and blocks add nothing: what is seen is that or, brought to length 1, 50
    times as much."""
    ids = torch.arange(300)[None]
    for epsilon, deviation in ((1e-6, 1.0), (1.0, 0.02)):
        model = Transformer(dataclasses.replace(GROUPED, norm_epsilon=epsilon, context_length=300))
        initialise(model, 1)
        assert float(model(ids).detach().std()) == pytest.approx(deviation, rel=0.05)


def test_a_folder_that_is_not_a_model_is_refused_with_its_name(tmp_path: Path) -> None:
    model = Transformer(GROUPED)
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(DataError, match="missing"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    with pytest.raises(ConfigError, match="mamba"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="not a model folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("shape", [GROUPED, UNTIED])
def test_the_shape_counts_its_parameters_and_survives_the_hugging_face_form(shape: Shape) -> None:
    assert shape.parameters == sum(parameter.numel() for parameter in Transformer(shape).parameters())
    assert shape_of(json.loads(json.dumps(config_of(shape)))) == shape


def test_named_sizes_are_what_their_names_say() -> None:
    vocabulary = {"nano": 4096, "124m": 50_304, "350m": 50_304, "1b": 50_304}
    expected = {"nano": 0.92e6, "124m": 124e6, "350m": 350e6, "1b": 1.1e9}
    for name, parameters in expected.items():
        size = SIZES[name]
        shape = Shape(
            vocabulary[name],
            *(size.layers, size.width, size.heads, size.key_value_heads, size.head_dim, size.feed_forward),
            size.context_length,
            tied_embeddings=size.tied_embeddings,
        )
        assert abs(shape.parameters / parameters - 1) < 0.1, (name, shape.parameters)


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of key_value_heads"):
        Shape(300, 1, 64, 4, 3, 16, 96, 64)
    with pytest.raises(ConfigError, match="even"):
        Shape(300, 1, 64, 4, 2, 15, 96, 64)
