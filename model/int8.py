"""Weights in eight bits, for CPUs: a quarter of the memory, and of what each new token must read from it.

Each row of a matrix (an output of a linear map, a token's embedding) becomes whole numbers from -127 to 127 and one
scale, the row's largest absolute value / 127; activations stay as they are. `model.int8.safetensors` holds them under
Hugging Face's names: `X.weight` int8, `X.weight_scale` float32, gains of norms float32.

A few rows, as in decoding, go through torch's own product of bfloat16 activations and int8 weights; many rows, as in a
prompt, are multiplied in float32 after the weights are widened, which that product is too slow for. So are rows that
are not a whole number of vectors or do not begin at one: with AVX-512 torch 2.13 answers infinities there, or dies.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from model.huggingface import read_shape
from model.products import linear
from model.rotary import rotary_tables
from model.shape import INT8_WEIGHTS, WEIGHTS, Shape
from model.transformer import Linear, Transformer, check_weights, read_model_files
from model.weights import write_tensors
from storage.errors import ConfigError

FEW_ROWS = 4  # up to here the product with int8 weights is the faster one (measured)
VECTOR_BYTES = 64  # the widest vector of a CPU
VECTOR_NUMBERS = 32  # so many bfloat16 numbers
LARGEST = 127


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, K) of float32 as int8 (N, K) and scales (N,). The scales are rounded to bfloat16 first, which the
    product for few rows wants, so that this rounding costs nothing."""
    scale = (weight.abs().amax(dim=1) / LARGEST).bfloat16().float()
    whole = (weight / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
    return whole.clamp(-LARGEST, LARGEST).to(torch.int8), scale


def product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (..., K) times the transpose of the rows (N, K) that int8 numbers and scales mean: (..., N)."""
    rows = x.reshape(-1, x.shape[-1])
    if (
        len(rows) <= FEW_ROWS
        and x.device.type == "cpu"
        and weight.shape[-1] % VECTOR_NUMBERS == 0
        and _is_aligned(weight)
    ):
        made = torch._weight_int8pack_mm(
            rows.to(torch.bfloat16, copy=True, memory_format=torch.contiguous_format), weight, scale.bfloat16()
        ).float()
    else:
        made = linear(rows, weight.float()) * scale
    return made.view(*x.shape[:-1], len(weight))


def _is_aligned(tensor: Tensor) -> bool:
    return tensor.data_ptr() % VECTOR_BYTES == 0


class Int8Rows(nn.Module):
    """A matrix of int8 rows: a linear map, or embeddings where it is asked for rows."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, columns, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.zeros(rows))

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.weight_scale)


class Int8Embedding(Int8Rows):
    """Embeddings in int8; also the output matrix where it is tied."""

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[x].float() * self.weight_scale[x][..., None]


class Int8Transformer(Transformer):
    """The transformer with all its matrices in int8; it computes in float32."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        for name, module in list(self.named_modules()):
            if isinstance(module, Linear):
                self.set_submodule(name, Int8Rows(module.out_features, module.in_features))
        self.model.set_submodule("embed_tokens", Int8Embedding(shape.vocabulary_size, shape.width))

    def logits(self, hidden: Tensor) -> Tensor:
        if self.lm_head is not None:
            return self.lm_head(hidden)
        embeddings = self.model.get_submodule("embed_tokens")
        return product(hidden, embeddings.get_buffer("weight"), embeddings.get_buffer("weight_scale"))


def save_int8(folder: Path, target: Path) -> None:
    """Write the float32 weights of a model folder as int8; equal bytes for equal weights. One matrix at a time is
    held in float32. ConfigError for a family whose maps have biases."""
    shape = read_shape(folder)
    if shape.parts.biases:
        raise ConfigError(f"release.formats: int8 is for models without biases, this is {shape.family}; take it off")
    tensors = {}
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 (not a mapping)
            tensor = weights.get_tensor(name)
            if tensor.ndim == 1:
                tensors[name] = tensor
            else:
                tensors[name], tensors[f"{name}_scale"] = quantise(tensor.float())
    write_tensors(tensors, target)


def load_int8(folder: Path) -> Int8Transformer:
    """The int8 model of a release folder, on the CPU. No float32 copy of a matrix is made."""
    shape, tensors = read_model_files(folder, INT8_WEIGHTS)
    with torch.device("meta"):
        model = Int8Transformer(shape)
    check_weights(folder, model, tensors)
    # in the file one tensor follows the other without a gap
    aligned = {name: tensor if _is_aligned(tensor) else tensor.clone() for name, tensor in tensors.items()}
    model.load_state_dict(aligned, assign=True)
    if shape.parts.rotary:
        model.cosines, model.sines = rotary_tables(shape)
    return model.requires_grad_(False).eval()


def widened(folder: Path) -> dict[str, Tensor]:
    """The int8 weights of a folder as float32 tensors by Hugging Face name."""
    _, tensors = read_model_files(folder, INT8_WEIGHTS)
    scales = {name: tensors.pop(f"{name}_scale") for name in list(tensors) if f"{name}_scale" in tensors}
    return {
        name: tensor.float() * scales[name][:, None] if name in scales else tensor for name, tensor in tensors.items()
    }
