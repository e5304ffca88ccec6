"""GGUF, the file of llama.cpp and of all that is built on it: weights, tokenizer and chat form in one.

F16 keeps each weight as a half-precision number. Q8_0 keeps 32 neighbours of a row as whole numbers of 8 bits with one
scale (8.5 bits a weight); rows whose length is not a multiple of 32 stay F16. Vectors (gains of norms) are F32 in both.
The package `gguf` writes it, llama.cpp's own converter does so too; Qwen3's rotary positions need no permutation.
Equal inputs give equal bytes. Memory: one tensor at a time.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.huggingface import read_shape
from model.shape import Shape
from storage.errors import DataError
from tasks.release.config import ReleaseConfig
from tasks.tokenize.tokenizer import END, END_OF_TEXT, SPECIAL_TOKENS, split_name
from tasks.wording import figure

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, TensorNameMap

LARGEST_HALF = 65_504.0


def write_gguf(target: Path, kind: str, config: ReleaseConfig, release: Path) -> int:
    """Write `target` from the weights, `config.json`, tokenizer and chat template of a release folder.

    `kind` is `F16` or `Q8_0`. Returns the number of matrices that stayed F16 though Q8_0 was wanted. Raises DataError
    for a weight that half precision cannot hold.
    """
    import gguf
    import numpy as np
    from safetensors import safe_open

    shape = read_shape(release)
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3])
    _add_shape(writer, shape)
    _add_tokenizer(writer, release, shape.vocabulary_size)
    writer.add_name(config.name)
    writer.add_license(config.license)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    with safe_open(release / "model.safetensors", framework="numpy") as weights:
        sizes = {name: weights.get_slice(name).get_shape() for name in sorted(weights.keys())}
        kinds = {name: kind_of_tensor(kind, size) for name, size in sizes.items()}
        for name, theirs in _their_names(sizes, shape).items():
            block, block_bytes = gguf.GGML_QUANT_SIZES[kinds[name]]
            count = math.prod(sizes[name]) // block * block_bytes
            writer.add_tensor_info(theirs, sizes[name], np.dtype(np.float32), count, raw_dtype=kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, kept in kinds.items():
            tensor = weights.get_tensor(name).astype(np.float32, copy=False)
            if kept != gguf.GGMLQuantizationType.F32 and not np.abs(tensor).max() <= LARGEST_HALF:
                raise DataError(
                    f"{name}: a weight is larger than {figure(LARGEST_HALF)}; take {target.name} off formats"
                )
            writer.write_tensor_data(gguf.quantize(tensor, kept))
    writer.close()
    return sum(len(size) > 1 and kinds[name].name != kind for name, size in sizes.items())


def why_no_gguf(shape: Shape, folder: Path) -> str:
    """Why a model with the tokenizer of a folder cannot be a GGUF file here; empty where it can."""
    if shape.family != "qwen3":
        return f"GGUF is written for Qwen3 models, this is {shape.family}"
    try:
        split_name(json.loads((folder / "tokenizer.json").read_bytes()))
    except DataError as error:
        return str(error)
    return ""


def read_weights(path: Path, names: Sequence[str], shape: Shape) -> Iterator[tuple[str, "np.ndarray"]]:
    """What the weights of a GGUF file stand for: (Hugging Face name, float32 array) of each of `names`."""
    import gguf

    ours = {theirs: name for name, theirs in _their_names(names, shape).items()}
    for tensor in gguf.GGUFReader(path).tensors:
        yield ours[tensor.name], gguf.dequantize(tensor.data, tensor.tensor_type)


def kind_of_tensor(kind: str, size: Sequence[int]) -> "GGMLQuantizationType":
    """How a tensor of this size is kept in a file of this kind."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(size) == 1:
        return kinds.F32
    block, _ = gguf.GGML_QUANT_SIZES[kinds[kind]]
    return kinds.F16 if size[-1] % block else kinds[kind]


def _their_names(names: Sequence[str] | dict[str, list[int]], shape: Shape) -> dict[str, str]:
    """llama.cpp's name of each tensor, by ours."""
    import gguf

    table: TensorNameMap = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, shape.layers)
    theirs = {name: table.get_name(name, (".weight",)) for name in names}
    unknown = [name for name, found in theirs.items() if found is None]
    if unknown:
        raise DataError(f"model.safetensors: GGUF has no name for {', '.join(unknown)} in a Qwen3 model")
    return {name: str(found) for name, found in theirs.items()}


def _add_shape(writer: "GGUFWriter", shape: Shape) -> None:
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary_size)


def _add_tokenizer(writer: "GGUFWriter", release: Path, vocabulary_size: int) -> None:
    """Vocabulary, merges, special tokens, chat template. Ids of the model beyond the vocabulary are filled up."""
    from gguf import TokenType

    whole = json.loads((release / "tokenizer.json").read_bytes())
    tokenizer = whole["model"]
    tokens = {identity: token for token, identity in tokenizer["vocab"].items()}
    kinds = {identity: TokenType.CONTROL if identity < len(SPECIAL_TOKENS) else TokenType.NORMAL for identity in tokens}
    every = range(vocabulary_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split_name(whole))
    writer.add_token_list([tokens.get(identity, f"[unused{identity}]") for identity in every])
    writer.add_token_types([kinds.get(identity, TokenType.UNUSED) for identity in every])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(END_OF_TEXT)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_add_bos_token(True)
    writer.add_chat_template((release / "chat_template.jinja").read_text(encoding="utf-8"))
