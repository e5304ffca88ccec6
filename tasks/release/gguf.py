"""GGUF, the file of llama.cpp and of all that is built on it: weights, tokenizer and chat form in one.

F16 keeps each weight as a half-precision number. Q8_0 keeps 32 neighbours of a row as whole numbers of 8 bits with one
scale (8.5 bits a weight); rows whose length is not a multiple of 32 stay F16. Vectors (gains of norms) are F32 in both.
The package `gguf` writes it, llama.cpp's own converter does so too. Qwen3, Llama and GPT-2 are written, where their
tokenizer is a byte-level BPE whose split into words llama.cpp knows by name, or was one of SentencePiece.
Equal inputs give equal bytes. Memory: one tensor at a time.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.huggingface import read_shape
from model.shape import Shape
from storage.documents import Message
from storage.errors import DataError
from tasks.answer.template_form import find_template, needed_chat_form
from tasks.release.config import ReleaseConfig
from tasks.tokenize.control import TOKENIZER_CONFIG, read_object, token_text
from tasks.tokenize.splits import split_name
from tasks.wording import figure

if TYPE_CHECKING:
    import numpy as np
    from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TensorNameMap, TokenType

LARGEST_HALF = 65_504.0
POSITIONS = "position_embd.weight"  # llama.cpp adds its rows up as they are
ROPE_FACTORS = "rope_freqs.weight"
SPACE_MARK = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def write_gguf(target: Path, kind: str, config: ReleaseConfig, release: Path) -> int:
    """Write `target` from the weights, `config.json`, tokenizer and chat template of a release folder.

    `kind` is `F16` or `Q8_0`. Returns the number of matrices that stayed F16 though Q8_0 was wanted. Raises DataError
    for a weight that half precision cannot hold.
    """
    import gguf
    import numpy as np
    from safetensors import safe_open

    shape = read_shape(release)
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[_architecture(shape)])
    _add_shape(writer, shape)
    _add_tokenizer(writer, release, shape.vocabulary_size)
    writer.add_name(config.name)
    writer.add_license(config.license)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    with safe_open(release / "model.safetensors", framework="numpy") as weights:
        theirs = _their_names(sorted(weights.keys()), shape)
        sizes = {name: _size_there(name, weights.get_slice(name).get_shape(), shape) for name in theirs}
        kinds = {name: kind_of_tensor(kind, size, theirs[name]) for name, size in sizes.items()}
        for name, there in theirs.items():
            block, block_bytes = gguf.GGML_QUANT_SIZES[kinds[name]]
            count = math.prod(sizes[name]) // block * block_bytes
            writer.add_tensor_info(there, sizes[name], np.dtype(np.float32), count, raw_dtype=kinds[name])
        factors = rope_factors(shape)
        if len(factors):
            float32 = gguf.GGMLQuantizationType.F32
            writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes, raw_dtype=float32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, kept in kinds.items():
            tensor = _there(name, weights.get_tensor(name).astype(np.float32, copy=False), shape)
            if kept != gguf.GGMLQuantizationType.F32 and not np.abs(tensor).max() <= LARGEST_HALF:
                raise DataError(
                    f"{name}: a weight is larger than {figure(LARGEST_HALF)}; take {target.name} off formats"
                )
            writer.write_tensor_data(gguf.quantize(tensor, kept))
        if len(factors):
            writer.write_tensor_data(factors)
    writer.close()
    return sum(len(size) > 1 and kinds[name].name not in (kind, "F32") for name, size in sizes.items())


def why_no_gguf(shape: Shape, folder: Path) -> str:
    """Why a model with the tokenizer of a folder cannot be a GGUF file here; empty where it can."""
    whole = json.loads((folder / "tokenizer.json").read_bytes())
    if was_sentencepiece(whole):
        return ""
    try:
        split_name(whole)
    except DataError as error:
        return f"GGUF: {error}"
    return ""


def read_weights(path: Path, names: Sequence[str], shape: Shape) -> Iterator[tuple[str, "np.ndarray"]]:
    """What the weights of a GGUF file stand for: (Hugging Face name, float32 array) of each of `names`."""
    import gguf

    ours = {theirs: name for name, theirs in _their_names(names, shape).items()}
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.name != ROPE_FACTORS:
            name = ours[tensor.name]
            yield name, _back(name, gguf.dequantize(tensor.data, tensor.tensor_type), shape)


def kind_of_tensor(kind: str, size: Sequence[int], name: str = "") -> "GGMLQuantizationType":
    """How a tensor of this size, and of llama.cpp's name, is kept in a file of this kind."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(size) == 1 or name == POSITIONS:
        return kinds.F32
    block, _ = gguf.GGML_QUANT_SIZES[kinds[kind]]
    return kinds.F16 if size[-1] % block else kinds[kind]


def rope_factors(shape: Shape) -> "np.ndarray":
    """How many times longer Llama 3's scaling makes each wavelength, as llama.cpp wants them; none without it."""
    import numpy as np

    if not shape.rope_original_context:
        return np.empty(0, np.float32)
    lengths = 2 * np.pi * shape.rope_theta ** (np.arange(0, shape.head_dim, 2) / shape.head_dim)
    turns = shape.rope_original_context / lengths
    kept = np.clip((turns - shape.rope_low) / (shape.rope_high - shape.rope_low), 0.0, 1.0)
    return (1 / ((1 - kept) / shape.rope_factor + kept)).astype(np.float32)


def _architecture(shape: Shape) -> "MODEL_ARCH":
    import gguf

    return gguf.MODEL_ARCH[shape.family.upper()]


def _their_names(names: Sequence[str], shape: Shape) -> dict[str, str]:
    """llama.cpp's name of each tensor, by ours."""
    import gguf

    table: TensorNameMap = gguf.get_tensor_name_map(_architecture(shape), shape.layers)
    theirs = {name: table.get_name(name, (".weight", ".bias")) for name in names}
    unknown = [name for name, found in theirs.items() if found is None]
    if unknown:
        raise DataError(f"model.safetensors: GGUF has no name for {', '.join(unknown)} in a {shape.family} model")
    return {name: str(found) for name, found in theirs.items()}


def _size_there(name: str, size: Sequence[int], shape: Shape) -> list[int]:
    return [*size][::-1] if _is_transposed(name, shape) else [*size]


def _there(name: str, tensor: "np.ndarray", shape: Shape) -> "np.ndarray":
    """A tensor as llama.cpp has it: GPT-2's maps lie the other way; Llama's queries and keys have the two numbers that
    turn together beside each other, where transformers has all first ones before all second ones."""
    import numpy as np

    heads = _turned_heads(name, shape)
    if heads:
        parts = tensor.reshape(heads, 2, shape.head_dim // 2, -1)
        return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(tensor.shape))
    return np.ascontiguousarray(tensor.T) if _is_transposed(name, shape) else tensor


def _back(name: str, tensor: "np.ndarray", shape: Shape) -> "np.ndarray":
    heads = _turned_heads(name, shape)
    if heads:
        return tensor.reshape(heads, shape.head_dim // 2, 2, -1).swapaxes(1, 2).reshape(tensor.shape)
    return tensor.T if _is_transposed(name, shape) else tensor


def _turned_heads(name: str, shape: Shape) -> int:
    """Heads of a matrix whose rows llama.cpp has in another order; 0 for all others."""
    if shape.family != "llama":
        return 0
    return {"q_proj": shape.heads, "k_proj": shape.key_value_heads}.get(name.split(".")[-2], 0)


def _is_transposed(name: str, shape: Shape) -> bool:
    return shape.family == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))


def _add_shape(writer: "GGUFWriter", shape: Shape) -> None:
    from gguf import RopeScalingType

    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    if shape.parts.rotary:
        writer.add_rope_dimension_count(shape.head_dim)
        writer.add_rope_freq_base(shape.rope_theta)
    if shape.rope_factor != 1 and not shape.rope_original_context:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.rope_factor)
    if shape.parts.root_mean_square:
        writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    else:
        writer.add_layer_norm_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary_size)


def was_sentencepiece(tokenizer: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is a BPE of SentencePiece as transformers writes it, like Llama 2's: spaces are a
    mark, which stands before each text too, and what the vocabulary lacks is said by bytes."""
    steps = (tokenizer.get("normalizer") or {}).get("normalizers", ())
    marks = [(step.get("type"), step.get("prepend") or step.get("content")) for step in steps]
    return (
        bool(tokenizer["model"].get("byte_fallback"))
        and marks == [("Prepend", SPACE_MARK), ("Replace", SPACE_MARK)]
        and tokenizer.get("pre_tokenizer") is None
    )


def _add_tokenizer(writer: "GGUFWriter", release: Path, vocabulary_size: int) -> None:
    """Vocabulary, merges, special tokens, chat template. Ids of the model beyond the vocabulary are filled up."""
    from gguf import TokenType

    whole = json.loads((release / "tokenizer.json").read_bytes())
    tokenizer, form = whole["model"], needed_chat_form(release)
    tokens = {identity: token for token, identity in tokenizer["vocab"].items()}
    kinds = dict.fromkeys(tokens, TokenType.NORMAL)
    for identity, added in form.tokenizer.get_added_tokens_decoder().items():
        tokens[identity] = added.content
        kinds[identity] = TokenType.CONTROL if added.special else TokenType.USER_DEFINED
    every = range(vocabulary_size)
    if was_sentencepiece(whole):
        _add_sentencepiece(writer, tokenizer, tokens, kinds, every)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split_name(whole))
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["merges"]])
    writer.add_token_list([tokens.get(identity, f"[unused{identity}]") for identity in every])
    writer.add_token_types([kinds.get(identity, TokenType.UNUSED) for identity in every])
    control = form.control
    writer.add_bos_token_id(control.start)
    named = token_text(read_object(release / TOKENIZER_CONFIG).get("eos_token"))  # what its template may call so
    end_of_text = form.tokenizer.token_to_id(named) if named else None
    if end_of_text is None:
        end_of_text = next((end for end in control.ends if end != form.end), form.end)
    writer.add_eos_token_id(end_of_text)
    writer.add_eot_token_id(form.end)
    writer.add_pad_token_id(control.pad)
    asked = form.prompts([[Message("user", "a")]])[0]
    writer.add_add_bos_token(asked[0] == control.start)  # as the model was taught, whatever its tokenizer does
    template = find_template(release)
    writer.add_chat_template(template.text if template else "")


def _add_sentencepiece(
    writer: "GGUFWriter",
    tokenizer: Mapping[str, Any],
    tokens: Mapping[int, str],
    kinds: dict[int, "TokenType"],
    every: Sequence[int],
) -> None:
    """What llama.cpp wants in place of merges: of two neighbours those are joined whose token has the highest score,
    which is that of its first merge."""
    from gguf import TokenType

    ranks: dict[str, int] = {}
    for rank, pair in enumerate(tokenizer["merges"]):
        ranks.setdefault("".join(pair.split(" ") if isinstance(pair, str) else pair), rank)
    for identity, token in tokens.items():
        if token == tokenizer.get("unk_token"):
            kinds[identity] = TokenType.UNKNOWN
            writer.add_unk_token_id(identity)
        elif _BYTE.fullmatch(token):
            kinds[identity] = TokenType.BYTE
    never = len(ranks)
    writer.add_tokenizer_model("llama")
    writer.add_token_scores([float(-ranks.get(tokens.get(identity, ""), never)) for identity in every])
    writer.add_add_space_prefix(True)
