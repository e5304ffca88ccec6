"""Parts of a model come back as they were, and what does not fit is reported in one error before any change."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.shape import Shape
from model.transformer import Transformer
from model.weights import load_parts, save_parts
from storage.errors import DataError

SHAPE = Shape(64, 2, 32, 2, 1, 16, 48, 16)
QUERIES = [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)]


def a_model(seed: int) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(SHAPE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_named_parts_come_back_and_the_others_stay(tmp_path: Path) -> None:
    source, target, before = a_model(0), a_model(1), a_model(1).state_dict()
    save_parts(source, QUERIES, tmp_path / "queries.safetensors")
    assert sorted(load_file(tmp_path / "queries.safetensors")) == QUERIES
    load_parts(target, QUERIES, tmp_path / "queries.safetensors")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, (source.state_dict() if name in QUERIES else before)[name]), name
    save_parts(target, QUERIES, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "queries.safetensors").read_bytes()


def test_one_error_tells_all_that_does_not_fit_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "parts.safetensors"
    tensors = {QUERIES[0]: torch.zeros(3, 4), "adapter": torch.zeros(2)}
    save_file(tensors, path)
    model = a_model(0)
    with pytest.raises(DataError) as caught:
        load_parts(model, QUERIES, path)
    assert str(caught.value) == (
        f"{path}: these are not the parts of this model: {QUERIES[1]} is missing; adapter is unexpected; "
        f"{QUERIES[0]} has the shape (3, 4), not (32, 32)"
    )
    path.write_bytes(b"cut")
    with pytest.raises(DataError, match="no tensors that can be read"):
        load_parts(model, QUERIES, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, a_model(0).state_dict()[name])
    for call in (save_parts, load_parts):
        with pytest.raises(ValueError, match="the model has no head, tail"):
            call(model, ["head", "tail"], path)
