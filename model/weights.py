"""Named tensors on disk. Equal tensors give equal bytes. What is read is compared with what it is read for, before
anything is overwritten."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from storage.errors import DataError
from storage.listing import first_few

MOST_NAMED = 3  # of the tensors that do not fit


def write_tensors(tensors: Mapping[str, Tensor], path: Path, note: tuple[str, str] = ("format", "pt")) -> None:
    """Write a safetensors file, readable by all, with one note in its header: several come in any order."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata=dict([note]))
    path.chmod(0o644)  # safetensors leaves 0600


def check_tensors(where: str, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raise one DataError, which begins with `where`, for all that is missing, unexpected or of another shape."""
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unexpected" for name in tensors if name not in wanted]
    wrong += [
        f"{name} has the shape {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if wrong:
        raise DataError(f"{where}: {'; '.join(first_few(wrong, MOST_NAMED))}")
