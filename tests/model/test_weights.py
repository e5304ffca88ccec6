"""Named tensors: equal ones give equal bytes, and what does not fit is reported in one error."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.weights import check_tensors, write_tensors
from storage.errors import DataError


def test_tensors_come_back_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(12.0).reshape(3, 4).mT, "a": torch.zeros(2)}
    for name in ("one", "other"):
        write_tensors(dict(reversed(tensors.items())) if name == "other" else tensors, tmp_path / name)
    found = load_file(tmp_path / "one")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o644


def test_one_error_tells_all_that_does_not_fit() -> None:
    wanted = {"first": torch.zeros(32, 32), "second": torch.zeros(1)}
    with pytest.raises(DataError) as caught:
        check_tensors("these are not the parts", wanted, {"first": torch.zeros(3, 4), "adapter": torch.zeros(2)})
    assert str(caught.value) == (
        "these are not the parts: second is missing; adapter is unexpected; first has the shape (3, 4), not (32, 32)"
    )
