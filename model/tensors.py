"""The tensors of a model folder in Hugging Face's form, and the names that they have here.

Weights are safetensors, in one file or in several with an index; pickled ones are refused, since reading them runs
code. The tensors of Qwen3 and Llama have their own names here. GPT-2's have others, its maps are stored transposed, and
those of queries, keys and values in one. The head of EuroBERT's classifiers is one module here, two there.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.huggingface import weight_files
from model.shape import WEIGHTS, Shape
from storage.errors import DataError

_BUFFERS = re.compile(r"(\.attn\.(bias|masked_bias)|\.rotary_emb\.inv_freq)$")  # worked out again, in old files
_LAYER = re.compile(r"(?:transformer\.)?h\.(\d+)\.(.+)")
_OURS = {  # of GPT-2: theirs -> ours
    "wte.weight": "model.embed_tokens.weight",
    "wpe.weight": "model.embed_positions.weight",
    "ln_f.weight": "model.norm.weight",
    "ln_f.bias": "model.norm.bias",
}
_OURS_OF_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_OURS_OF_HEAD = {  # of EuroBERT's classifiers
    f"{module}.{what}": f"score.{module}.{what}" for module in ("dense", "classifier") for what in ("weight", "bias")
}
_JOINED, _PARTS = "attn.c_attn", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def read_tensors(folder: Path, weights: str = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of a folder as they are named there; DataError where they cannot be read."""
    try:
        files = [weights] if weights != WEIGHTS else weight_files(folder)
        return {name: tensor for file in files for name, tensor in load_file(folder / file).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a model folder that can be read ({error})") from error


def as_ours(shape: Shape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the names of model/transformer.py; those that no model has keep theirs."""
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _BUFFERS.search(name):
            continue
        ours |= dict(_gpt2_as_ours(name, tensor)) if shape.family == "gpt2" else {_OURS_OF_HEAD.get(name, name): tensor}
    if shape.tied_embeddings:  # some files hold the head beside the embeddings that it is
        ours.pop("lm_head.weight", None)
    return ours


def as_theirs(shape: Shape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the names that transformers has for the family."""
    if shape.family != "gpt2":
        head = {ours: theirs for theirs, ours in _OURS_OF_HEAD.items()}
        return {head.get(name, name): tensor for name, tensor in tensors.items()}
    theirs = {f"transformer.{name}": tensors[ours] for name, ours in _OURS.items()}
    for layer in range(shape.layers):
        begin, their_begin = f"model.layers.{layer}", f"transformer.h.{layer}"
        for what in ("weight", "bias"):
            joined = torch.cat([tensors[f"{begin}.{part}.{what}"] for part in _PARTS])
            theirs[f"{their_begin}.{_JOINED}.{what}"] = joined.T if what == "weight" else joined
            for name, ours in _OURS_OF_LAYER.items():
                tensor = tensors[f"{begin}.{ours}.{what}"]
                theirs[f"{their_begin}.{name}.{what}"] = tensor.T if tensor.ndim == 2 else tensor
    theirs |= {name: tensors[name] for name in ("lm_head.weight", "score.weight") if name in tensors}
    return theirs


def _gpt2_as_ours(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    found = _LAYER.fullmatch(name)
    if found is None:
        yield _OURS.get(name.removeprefix("transformer."), name), tensor
        return
    layer, inner = found.groups()
    module, _, what = inner.rpartition(".")
    tensor = tensor.T.contiguous() if tensor.ndim == 2 else tensor
    if module == _JOINED:
        for part, piece in zip(_PARTS, tensor.chunk(3), strict=True):
            yield f"model.layers.{layer}.{part}.{what}", piece
    else:
        yield f"model.layers.{layer}.{_OURS_OF_LAYER.get(module, module)}.{what}", tensor
