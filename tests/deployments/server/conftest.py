"""What tests of the model server share: a small open model, and threads as they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from open_models import write_qwen

CONTEXT = 1024


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    """A small model is served with one thread."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, in Hugging Face form, whose context is 1,024 tokens."""
    return write_qwen(tmp_path_factory.mktemp("model") / "river", context_length=CONTEXT)
