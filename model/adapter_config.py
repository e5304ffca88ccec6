"""PEFT's form of an adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`. No torch here.

Of PEFT's kinds of adapters LoRA is known (Hu et al. 2021), beside maps of the blocks. A config that says anything that
would compute something else is refused.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import ConfigError, DataError

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PICKLED = "adapter_model.bin"

_PLAIN = {  # of PEFT's settings: what they must be, if they are there
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "use_qalora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layers_to_transform": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
}
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq")  # of `init_lora_weights`: beginnings that leave other weights


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an `adapter_config.json` says. `targets` are ends of names of maps, or None where a pattern stands for them;
    `ranks` and `alphas` are of maps that have others than `rank` and `alpha`; `base_model` is the name of the model
    that it says it was trained on, "" for none."""

    rank: int
    alpha: float
    targets: tuple[str, ...] | None
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    base_model: str

    def rank_of(self, map_name: str) -> int:
        """The rank beside a map, by its name in transformers."""
        return _of(map_name, self.ranks, self.rank)

    def scale_of(self, map_name: str) -> float:
        """How much the adapter of a map counts."""
        return _of(map_name, self.alphas, self.alpha) / self.rank_of(map_name)


def adapter_files(folder: Path) -> list[str]:
    """The names of an adapter's files; DataError that says what is missing or what the folder is instead."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'no such folder' if not folder.exists() else 'is no folder'}: an adapter is one")
    if not (folder / CONFIG).is_file():
        raise DataError(f"{folder}: has no {CONFIG}, so it is not an adapter in PEFT's form")
    if not (folder / TENSORS).is_file():
        if (folder / PICKLED).is_file():
            raise DataError(
                f"{folder}: {PICKLED} is pickled, and reading it runs code: save it again with PEFT's "
                "save_pretrained(FOLDER, safe_serialization=True)"
            )
        raise DataError(f"{folder}: has no {TENSORS}: put it beside its {CONFIG}")
    return [CONFIG, TENSORS]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """What a folder's config says; ConfigError for a kind that is not known here, DataError for one that is none."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        for name, value in _PLAIN.items():
            if config.get(name, value) not in (value, None):
                raise ConfigError(f"{path}: {name} is {config[name]!r}; only {value!r} is known here")
        begun = str(config.get("init_lora_weights", "")).lower()
        if begun.startswith(_CHANGE_THE_BASE):
            raise ConfigError(
                f"{path}: init_lora_weights is {begun!r}, which has changed the weights beside the adapter"
            )
        targets = config["target_modules"]
        found = AdapterConfig(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            targets=None if isinstance(targets, str) else tuple(sorted(map(str, targets))),
            ranks={str(name): int(rank) for name, rank in (config.get("rank_pattern") or {}).items()},
            alphas={str(name): float(alpha) for name, alpha in (config.get("alpha_pattern") or {}).items()},
            base_model=str(config.get("base_model_name_or_path") or ""),
        )
        if min((found.rank, *found.ranks.values())) < 1:
            raise ValueError("a rank is below 1")
        for pattern in (*found.ranks, *found.alphas):
            re.compile(pattern)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, re.error) as error:
        raise DataError(f"{path}: no adapter's config that can be read ({error!r})") from error
    return found


def _of(map_name: str, patterns: Mapping[str, Any], otherwise: Any) -> Any:
    """The value of the first pattern that the end of a name matches, as PEFT looks it up (`get_pattern_key`)."""
    found = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", map_name))
    return next(found, otherwise)
