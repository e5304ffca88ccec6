"""Int8 weights: within half a step of the float32 ones, the same model through either product, equal bytes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import model.int8
from model.generate import generate
from model.int8 import Int8Transformer, load_int8, product, quantise, save_int8, widened
from model.parallel import one_thread
from model.shape import INT8_WEIGHTS, Shape
from model.transformer import Transformer, load_model, save_model
from storage.errors import DataError

SHAPE = Shape(97, 2, 64, 2, 1, 20, 96, 32)
UNTIED = Shape(97, 2, 64, 2, 1, 20, 96, 32, tied_embeddings=False)


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    with one_thread():
        yield


def folder_with(tmp_path: Path, shape: Shape = SHAPE) -> Path:
    torch.manual_seed(0)
    transformer = Transformer(shape)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    save_model(transformer, tmp_path)
    save_int8(tmp_path, tmp_path / INT8_WEIGHTS)
    return tmp_path


@given(st.integers(1, 5), st.integers(1, 40), st.floats(1e-6, 1e6), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_each_weight_is_within_half_a_step(rows: int, columns: int, size: float, seed: int) -> None:
    """Half a step, or for the largest ones what the rounding of the scale to bfloat16 (2^-8) takes: 127 / 256."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    whole, scale = quantise(weight)
    assert whole.dtype == torch.int8 and whole.abs().max() <= 127
    assert ((whole.float() * scale[:, None] - weight).abs() <= 0.501 * scale[:, None]).all()


def test_a_row_of_zeros_stays_one() -> None:
    whole, scale = quantise(torch.zeros(2, 8))
    assert not whole.any() and not scale.any()
    assert not product(torch.randn(1, 8), whole, scale).any()


@pytest.mark.parametrize("rows", [1, 2, model.int8.FEW_ROWS, model.int8.FEW_ROWS + 1, 50])
@pytest.mark.parametrize("columns", [1, 8, 32, 40, 48, 64, 97, 256])
def test_both_products_are_those_of_the_weights_kept(rows: int, columns: int) -> None:
    weight, x = torch.randn(56, columns), torch.randn(rows, columns)
    whole, scale = quantise(weight)
    exact = x @ (whole.float() * scale[:, None]).T
    error = (product(x, whole, scale) - exact).abs().max() / exact.abs().max()
    assert error < (1e-5 if rows > model.int8.FEW_ROWS or columns % 32 else 1e-2)  # bfloat16 keeps 8 bits


def test_weights_that_begin_anywhere_in_memory_are_multiplied(tmp_path: Path) -> None:
    whole, scale = quantise(torch.randn(97, 64))
    x = torch.randn(1, 64)
    for shift in (1, 8, 16):
        moved = torch.empty(whole.numel() + shift, dtype=torch.int8)[shift:].view_as(whole).copy_(whole)
        torch.testing.assert_close(product(x, moved, scale), product(x, whole, scale), rtol=0.02, atol=0.1)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in load_int8(folder_with(tmp_path)).state_dict().values())


@pytest.mark.parametrize("shape", [SHAPE, UNTIED])
def test_a_saved_model_is_that_of_its_widened_weights_and_near_the_float32_one(tmp_path: Path, shape: Shape) -> None:
    folder = folder_with(tmp_path, shape)
    ids = torch.randint(0, 97, (2, 20))
    small, plain, kept = load_int8(folder), load_model(folder), Transformer(shape)
    kept.load_state_dict(widened(folder))
    logits = small.logits(small(ids))
    assert (logits - kept.logits(kept(ids))).abs().max() < 1e-4
    difference = (logits - plain.logits(plain(ids))).abs().max()
    assert 0 < difference < 0.1 * logits.abs().max()
    assert (folder / INT8_WEIGHTS).stat().st_size < 0.4 * (folder / "model.safetensors").stat().st_size


def test_decoding_with_a_cache_works_and_repeats(tmp_path: Path) -> None:
    small = load_int8(folder_with(tmp_path))
    assert isinstance(small, Int8Transformer) and small.device.type == "cpu"
    first = list(generate(small, [1, 2, 3], 20))
    assert len(first) == 20 and first == list(generate(small, [1, 2, 3], 20))


def test_equal_weights_give_equal_bytes_that_all_may_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    save_int8(folder, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (folder / INT8_WEIGHTS).read_bytes()
    assert (folder / INT8_WEIGHTS).stat().st_mode & 0o777 == 0o644


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 97'))
    for load in (load_int8, load_model):
        with pytest.raises(DataError, match=r"gate_proj.weight has the shape \(96, 64\), not \(97, 64\).* and \d more"):
            load(folder)
    config.write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        load_model(folder)
