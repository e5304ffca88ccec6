"""Stage initial: an open model in Hugging Face's form in, all that later stages need of it out.

Comes in: a folder, observed by content, or a model of the hub at a commit. Goes out: `model`, its weights in one file
of float32 (`training.json` says where they come from), `tokenizer`, its own tokenizer and chat template with the ids
that begin and end a text (tokenizer.py), and `canaries`, of which there are none. An adapter is added to the weights
that it was trained on. So it stands where the stages
`tokenizer` and `pretrain` stand for a model that is trained here. Refused are weights that are pickled, of a family
that is not known, of other sizes than `config.json` says, not finite, or with fewer rows than the tokenizer has tokens;
and chat templates that raise, or need what the sandbox forbids. Cost: the weights are read and written once.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from model.shape import WEIGHTS, Shape
from storage.canonical import digest_file
from storage.errors import DataError
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.initial.config import ImportConfig
from tasks.initial.files import known_shape, model_files
from tasks.initial.hub import fetch_model
from tasks.initial.observe import observe_initial
from tasks.initial.tokenizer import take_tokenizer
from tasks.notices import NOTICES
from tasks.tokenize.canaries import Planted, write_planted
from tasks.tokenize.control import MODEL_CONFIG, read_control
from tasks.tokenize.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from model.adapter_config import AdapterConfig

POSITIONS = "model.embed_positions.weight"


@stage(
    "initial",
    parts=("model", "tokenizer", "canaries"),
    observe=observe_initial,
    libraries=("torch", "tokenizers"),
    about="tasks.initial.about.INITIAL",
)
def take_over(config: ImportConfig, *, context: Context) -> Summary:
    """Take an open model over. Summary: its family and sizes, and where its chat form comes from."""
    write_planted(context.part("canaries"), Planted((), ()))
    return take_model(config, context)


def take_model(config: ImportConfig, context: Context) -> Summary:
    """Write the parts `model` and `tokenizer` of a model; returns the summary."""
    from model.huggingface import config_of
    from model.tensors import as_theirs
    from model.weights import write_tensors

    source = Path(config.path) if config.path else fetch_model(config, context)
    model_files(source)
    shape, tensors = read_checked(source)
    config.check_kind(shape)
    adapter = add_trained(Path(config.adapter), source, shape, tensors, context.work) if config.adapter else None
    shape, tensors = shortened(shape, tensors, config.shortened(shape.context_length))
    taken = take_tokenizer(source, context.part("tokenizer"), shape.vocabulary_size, writes=not config.encoder)
    control = read_control(context.part("tokenizer"))
    folder = context.part("model")
    write_tensors(as_theirs(shape, tensors), folder / WEIGHTS)
    _write(folder / MODEL_CONFIG, config_of(shape, control.start))
    said = {
        "family": shape.family,
        "parameters": shape.parameters,
        "context_length": shape.context_length,
        "chat_form": taken,
        "vocabulary_size": shape.vocabulary_size,
        **({"adapter_rank": adapter.rank} if adapter else {}),
    }
    origin = f"{config.model}@{config.revision}" if config.model else ""
    _write(folder / "training.json", [{"stage": "initial", "origin": origin, **said}])
    names = load_tokenizer(context.part("tokenizer")).id_to_token
    ends = ", ".join(str(names(token)) for token in control.ends)
    notices = _base_notices(config, adapter) if adapter else []
    return {
        **said,
        "starts_with": str(names(control.start)),
        "ends_with": ends,
        **({NOTICES: notices} if notices else {}),
    }


def read_checked(source: Path) -> tuple[Shape, dict[str, "Tensor"]]:
    """Shape and weights (float32) of a folder; DataError where they do not fit each other or are not finite."""
    import torch

    from model.transformer import Transformer, check_weights, read_model_files

    known_shape(source)
    shape, tensors = read_model_files(source, WEIGHTS)
    with torch.device("meta"):
        check_weights(source, Transformer(shape), tensors)
    for name, tensor in tensors.items():
        if not tensor.dtype.is_floating_point:
            raise DataError(
                f"{source}: {name} holds {tensor.dtype}: quantised weights are not read; take the model's own"
            )
        tensors[name] = tensor.float()
        if not torch.isfinite(tensors[name]).all():
            raise DataError(
                f"{source}: {name} holds numbers that are not finite (NaN or infinite): the file is damaged, or its "
                "training went wrong; take another copy or an earlier checkpoint"
            )
    return shape, tensors


def add_trained(
    folder: Path, source: Path, shape: Shape, tensors: dict[str, "Tensor"], scratch: Path
) -> "AdapterConfig":
    """Add the adapter of a folder to the weights of `source`; errors as of `read_adapter`, and DataError where it says
    that it was trained on others: neither on that file nor on what is taken over of it, which is what a run trains on.
    """
    from model.adapters import add_adapter, read_adapter

    adapter = read_adapter(folder, shape)
    if adapter.base is not None:
        whole = source / WEIGHTS
        digests = [digest_file(whole)] if whole.is_file() else []
        if adapter.base not in digests:
            digests.append(_digest_taken_over(shape, tensors, scratch / WEIGHTS))
        adapter.check_base(digests, str(source))
    add_adapter(tensors, adapter)
    return adapter.config


def _digest_taken_over(shape: Shape, tensors: dict[str, "Tensor"], scratch: Path) -> str:
    """The digest that weights have in the part `model`."""
    from model.tensors import as_theirs
    from model.weights import write_tensors

    write_tensors(as_theirs(shape, tensors), scratch)
    digest = digest_file(scratch)
    scratch.unlink()
    return digest


def shortened(shape: Shape, tensors: dict[str, "Tensor"], length: int) -> tuple[Shape, dict[str, "Tensor"]]:
    """The model with a context of `length` tokens; trained positions beyond it are left out."""
    if POSITIONS in tensors:
        tensors = {**tensors, POSITIONS: tensors[POSITIONS][:length].contiguous()}
    return dataclasses.replace(shape, context_length=length), tensors


def _base_notices(config: ImportConfig, adapter: "AdapterConfig") -> list[str]:
    """That the adapter names another model, where it does: a name alone proves nothing."""
    given = config.model or Path(str(config.path)).name
    if not adapter.base_model or Path(adapter.base_model).name == Path(given).name:
        return []
    return [
        f"initial: the adapter says that it was trained on {adapter.base_model}, and is added to {given}: make sure "
        "that they are the same weights"
    ]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
