"""Named tensors on disk: whole models, and parts of one, such as the matrices that a training has changed.

Equal tensors give equal bytes. What is read is compared with what it is read for, before anything is overwritten.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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


def save_parts(model: nn.Module, names: Collection[str], path: Path) -> None:
    """Write the named tensors of a model; ValueError for names that it does not have."""
    write_tensors(_parts(model, names), path)


def load_parts(model: nn.Module, names: Collection[str], path: Path) -> None:
    """Put the named tensors of a file into a model, which keeps all its others.

    The file must hold these and no others. DataError, and the model as it was, where it does not or cannot be read;
    ValueError for names that the model does not have.
    """
    parts = _parts(model, names)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no tensors that can be read ({error})") from error
    check_tensors(f"{path}: these are not the parts of this model", parts, tensors)
    with torch.no_grad():
        for name, part in parts.items():
            part.copy_(tensors[name])


def _parts(model: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    tensors = model.state_dict()
    unknown = [name for name in names if name not in tensors]
    if unknown:
        raise ValueError(f"the model has no {', '.join(unknown)}")
    return {name: tensors[name] for name in names}
