"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv 2106.09685): small trained matrices beside the maps of a frozen model.

An adapted map gives x Wᵀ + (alpha / rank) x Aᵀ Bᵀ, with A (rank, inputs) random and B (outputs, rank) zero, so that
training begins with the model as it was. Gradients, optimizer state and checkpoints are those of A and B alone. Merged,
the sum stands in W, and the model is as large and as fast as before.

On disk an adapter has the form of PEFT (model/adapter_config.py); the metadata of its tensors name the digest of the
weights that it was trained on. GPT-2 has queries, keys and values in one map there: their adapters become one of the
joined rank, with zeros where a part has none of another's. model/adapters.py reads adapters.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.adapter_config import CONFIG, TENSORS
from model.shape import WEIGHTS, Shape
from model.transformer import Linear, Transformer
from model.weights import write_tensors
from storage.canonical import digest_file
from storage.errors import ConfigError

BASE = "base"  # in the metadata of the tensors: SHA-256 of the weights that the adapter belongs to

PREFIX = "base_model.model."  # of the tensors: PEFT's
GPT2_JOINED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")  # one map, attn.c_attn, in transformers
GPT2_NAMES = {"self_attn.o_proj": "attn.c_proj", "mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"}


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is adapted: `targets` are names of maps, such as q_proj; empty: all maps of the blocks."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Factor(Linear):
    """One of the two matrices of an adapter."""


class AdaptedLinear(Linear):
    """A frozen map with an adapter beside it; its own parameters keep their names."""

    def __init__(self, inner: Linear, rank: int, scale: float) -> None:
        outputs, inputs = inner.weight.shape
        with torch.device("meta"):
            super().__init__(inputs, outputs)
        self.weight, self.bias, self.scale = inner.weight, inner.bias, scale
        self.lora_A, self.lora_B = Factor(inputs, rank), Factor(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        product, low = super().forward(x), self.lora_A(x) * self.scale
        up = self.lora_B.weight.to(x.dtype)  # added by the product itself: a sum of its own would pass over all outputs
        return torch.addmm(product.flatten(0, -2), low.flatten(0, -2), up.T).view_as(product)

    @torch.no_grad()
    def merged(self) -> Linear:
        """The map that does the same alone."""
        self.weight += self.scale * (self.lora_B.weight @ self.lora_A.weight)
        with torch.device("meta"):
            plain = Linear(self.weight.shape[1], self.weight.shape[0])
        plain.weight, plain.bias = self.weight, self.bias
        return plain


def adapt(model: Transformer, settings: LowRank, seed: int) -> None:
    """Freeze a model and put adapters that change nothing yet beside its maps; ConfigError for a target it lacks."""
    known = {name for _, _, name, _ in maps_of(model)}
    for target in settings.targets:
        if target not in known:
            has = ", ".join(sorted(known))
            raise ConfigError(f"lora.targets: a {model.shape.family} model has no {target}; it has {has}")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for _, parent, name, inner in list(maps_of(model)):
        if settings.targets and name not in settings.targets:
            continue
        adapted = AdaptedLinear(inner, settings.rank, settings.scale)
        with torch.no_grad():
            bound = inner.weight.shape[1] ** -0.5  # Kaiming's uniform with a = sqrt(5), as PEFT has it
            random = torch.rand(adapted.lora_A.weight.shape, generator=generator) * 2 - 1
            adapted.lora_A.weight.copy_(random * bound)
            adapted.lora_B.weight.zero_()
        setattr(parent, name, adapted.to(inner.weight.device))


def merge(model: Transformer) -> None:
    """Add the adapters to the maps and take them away."""
    for _, parent, name, inner in list(maps_of(model)):
        if isinstance(inner, AdaptedLinear):
            setattr(parent, name, inner.merged())


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def maps_of(model: Transformer) -> Iterator[tuple[str, nn.Module, str, Linear]]:
    """The maps of the blocks: the whole name of each, the module that holds it, its name there, and the map."""
    for layer, block in enumerate(model.model.layers):
        for place, parent in list(block.named_modules()):
            if not isinstance(parent, AdaptedLinear):
                for name, one in parent.named_children():
                    if isinstance(one, Linear):
                        yield f"model.layers.{layer}.{place}.{name}", parent, name, one


# On disk --------------------------------------------------------------------------------------------------------


def save_adapter(model: Transformer, settings: LowRank, base: Path, folder: Path) -> None:
    """Write the adapters of a model alone, in PEFT's form. `base` is the folder of the frozen weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in _as_theirs(model.shape, trained(model)).items()}
    write_tensors(tensors, folder / TENSORS, (BASE, digest_file(base / WEIGHTS)))
    text = json.dumps(_config_of(model, settings, tensors), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _config_of(model: Transformer, settings: LowRank, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    joined = sorted({name.rpartition(".lora_")[0] for name in tensors if ".c_attn." in name})
    ranks = {name.removeprefix(PREFIX): len(tensors[f"{name}.lora_A.weight"]) for name in joined}
    layers = {name.removeprefix(PREFIX).split(".lora_")[0] for name in tensors}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "base_model_name_or_path": None,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": model.shape.family == "gpt2",
        "target_modules": sorted({".".join(name.split(".")[-2:]) for name in layers}),
        "rank_pattern": ranks,
        "alpha_pattern": {name: rank * settings.scale for name, rank in ranks.items()},
    }


def _as_theirs(shape: Shape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices of adapters under the names that the maps have in transformers."""
    if shape.family != "gpt2":
        return dict(tensors)
    theirs: dict[str, Tensor] = {}
    for layer in range(shape.layers):
        ours, begin = f"model.layers.{layer}", f"transformer.h.{layer}"
        for name, their_name in GPT2_NAMES.items():
            for factor in ("lora_A", "lora_B"):
                if (found := tensors.get(f"{ours}.{name}.{factor}.weight")) is not None:
                    theirs[f"{begin}.{their_name}.{factor}.weight"] = found
        parts = [name for name in GPT2_JOINED if f"{ours}.{name}.lora_A.weight" in tensors]
        if parts:
            first = [tensors[f"{ours}.{name}.lora_A.weight"] for name in parts]
            second = [tensors.get(f"{ours}.{name}.lora_B.weight") for name in GPT2_JOINED]
            theirs[f"{begin}.attn.c_attn.lora_A.weight"] = torch.cat(first)
            theirs[f"{begin}.attn.c_attn.lora_B.weight"] = _block_diagonal(second, shape.width)
    return theirs


def _block_diagonal(blocks: list[Tensor | None], rows: int) -> Tensor:
    """Blocks (rows, rank) one below the other, each in columns of its own; zero rows where there is none."""
    filled = [torch.zeros(rows, 0) if block is None else block.detach().cpu() for block in blocks]
    return torch.block_diag(*filled)


def settings_of(fields: dict[str, Any] | None) -> LowRank | None:
    """Settings from their JSON."""
    return None if fields is None else LowRank(**fields | {"targets": tuple(fields["targets"])})
