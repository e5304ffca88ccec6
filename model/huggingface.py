"""Hugging Face's form of a model: what `config.json` says of its shape, and what its tensors are called.

| family | its architecture in transformers | tensors |
|---|---|---|
| qwen3 | Qwen3ForCausalLM | as in model/transformer.py |
| llama | LlamaForCausalLM | as there |
| gpt2 | GPT2LMHeadModel | queries, keys and values in one map, and maps transposed |
| eurobert | EuroBertForMaskedLM | as there; of a classifier (classes "late") the head without its `score.` |

A config that says anything else is refused: a model that is read as what it is not computes nonsense.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.shape import FAMILIES, WEIGHTS, Dropout, Shape
from storage.errors import ConfigError, DataError

INDEX = "model.safetensors.index.json"
SIZES = ("vocabulary_size", "layers", "width", "heads", "key_value_heads", "head_dim", "feed_forward", "context_length")
LARGEST = 1 << 40
POOLING = "late"  # of an encoder's classes: the mean over all tokens of a text, behind the map before the head
CLASSIFIERS: dict[str, str] = {
    "qwen3": "Qwen3ForSequenceClassification",
    "llama": "LlamaForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "eurobert": "EuroBertForSequenceClassification",
}
ARCHITECTURES = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "eurobert": "EuroBertForMaskedLM",
}


def read_shape(folder: Path) -> Shape:
    """The shape of the model in a folder; DataError where its `config.json` is none."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if not isinstance(config, dict):
            raise ValueError("config.json holds no JSON object")
        return shape_of(config)
    except KeyError as error:
        raise DataError(f"{folder}: config.json does not say {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: not a model folder that can be read ({error})") from error


def weight_files(folder: Path) -> list[str]:
    """The files of a model's weights: one, or those that an index names; DataError where any of them is not there.

    Pickled ones are refused, since reading them runs code.
    """
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if not (folder / INDEX).exists():
        raise DataError(_nothing_to_read(folder))
    names = shard_names((folder / INDEX).read_bytes(), f"{folder / INDEX}")
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{folder / INDEX}: names {name}, which is not there: put all files of the weights there")
    return names


def shard_names(index: bytes, where: str) -> list[str]:
    """The files that an index of weights names; DataError, which begins with `where`, for an index that is none."""
    try:
        names = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: not an index of weights that can be read ({error!r})") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(f"{where}: {name!r} is not a file of this folder with safetensors")
    if not names:
        raise DataError(f"{where}: names no file")
    return names


def _nothing_to_read(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        return (
            f"{folder}: {pickled[0]} is pickled, and reading it runs code: take the model's safetensors, or convert it"
        )
    return f"{folder}: not a model folder that can be read (no {WEIGHTS} and no {INDEX})"


def config_of(shape: Shape, end_of_text: int = 0) -> dict[str, Any]:
    """The `config.json` of a shape."""
    common: dict[str, Any] = {
        "architectures": [ARCHITECTURES[shape.family]],
        "model_type": shape.family,
        "vocab_size": shape.vocabulary_size,
        "tie_word_embeddings": shape.tied_embeddings,
        "initializer_range": 0.02,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": "float32",
    }
    if shape.classes:
        common |= {
            "architectures": [CLASSIFIERS[shape.family]],
            "id2label": {str(number): name for number, name in enumerate(shape.classes)},
            "label2id": {name: number for number, name in enumerate(shape.classes)},
            "pad_token_id": end_of_text,
            "problem_type": "single_label_classification",
        }
    if not shape.parts.causal:
        common |= {"pad_token_id": end_of_text, "mask_token_id": shape.mask_token, "classifier_pooling": POOLING}
    return common | (_gpt2_config(shape) if shape.family == "gpt2" else _rotary_config(shape))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a `config.json` names; ConfigError for a model that is none of these families, KeyError for a
    field that is missing."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ConfigError(f"config.json: models of the type {kind!r} are not known. Known: {', '.join(FAMILIES)}")
    shape = _gpt2_shape(config) if kind == "gpt2" else _rotary_shape(config)
    if CLASSIFIERS[kind] in config.get("architectures", ()):
        names = config["id2label"]
        shape = replace(shape, classes=tuple(str(names[str(number)]) for number in range(len(names))))
    for name in SIZES:
        value = getattr(shape, name)
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise ConfigError(
                f"config.json: the {name.replace('_', ' ')} is {value!r}, not a whole number of 1 or more"
            )
    return shape


# Qwen3, Llama and EuroBERT --------------------------------------------------------------------------------------------


def _rotary_config(shape: Shape) -> dict[str, Any]:
    config = {
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context_length,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": shape.dropout.attention,
    }
    if shape.family == "qwen3":
        return config | {"use_sliding_window": False}
    scaling = {"rope_scaling": _rope_scaling(shape)} if shape.rope_factor != 1 else {}
    return config | {"mlp_bias": False} | scaling


def _rope_scaling(shape: Shape) -> dict[str, Any]:
    if not shape.rope_original_context:
        return {"rope_type": "linear", "factor": shape.rope_factor}
    return {
        "rope_type": "llama3",
        "factor": shape.rope_factor,
        "low_freq_factor": shape.rope_low,
        "high_freq_factor": shape.rope_high,
        "original_max_position_embeddings": shape.rope_original_context,
    }


def _rotary_shape(config: Mapping[str, Any]) -> Shape:
    _refuse(config, "attention_bias", "mlp_bias", "use_sliding_window")
    _want(config, "hidden_act", "silu")
    encoder = not FAMILIES[config["model_type"]].causal
    if encoder:
        _want(config, "classifier_pooling", POOLING)
    rope = config.get("rope_parameters") or {}
    theta = config.get("rope_theta") or rope.get("rope_theta", 10_000.0)
    heads = config["num_attention_heads"]
    return Shape(
        vocabulary_size=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=heads,
        key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        feed_forward=config["intermediate_size"],
        context_length=config["max_position_embeddings"],
        rope_theta=float(theta),
        norm_epsilon=config["rms_norm_eps"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        family=config["model_type"],
        mask_token=config["mask_token_id"] if encoder else 0,
        dropout=Dropout(attention=_share(config, "attention_dropout")),
        **_rope_fields(config.get("rope_scaling") or rope),
    )


def _rope_fields(scaling: Mapping[str, Any]) -> dict[str, Any]:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return {}
    if kind == "linear":
        return {"rope_factor": float(scaling["factor"])}
    if kind != "llama3":
        raise ConfigError(f"config.json: rotary positions of the type {kind!r} are not known. Known: linear, llama3")
    return {
        "rope_factor": float(scaling["factor"]),
        "rope_low": float(scaling["low_freq_factor"]),
        "rope_high": float(scaling["high_freq_factor"]),
        "rope_original_context": int(scaling["original_max_position_embeddings"]),
    }


# GPT-2 ----------------------------------------------------------------------------------------------------------------


def _gpt2_config(shape: Shape) -> dict[str, Any]:
    return {
        "n_embd": shape.width,
        "n_inner": shape.feed_forward,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_positions": shape.context_length,
        "layer_norm_epsilon": shape.norm_epsilon,
        "activation_function": "gelu_new",
        "attn_pdrop": shape.dropout.attention,
        "embd_pdrop": shape.dropout.embeddings,
        "resid_pdrop": shape.dropout.residual,
    }


def _gpt2_shape(config: Mapping[str, Any]) -> Shape:
    _refuse(config, "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    _want(config, "activation_function", "gelu_new")
    _want(config, "scale_attn_weights", True)
    width, heads = config["n_embd"], config["n_head"]
    return Shape(
        vocabulary_size=config["vocab_size"],
        layers=config["n_layer"],
        width=width,
        heads=heads,
        key_value_heads=heads,
        head_dim=width // heads,
        feed_forward=config.get("n_inner") or 4 * width,
        context_length=config.get("n_positions") or config["n_ctx"],
        norm_epsilon=config["layer_norm_epsilon"],
        tied_embeddings=config.get("tie_word_embeddings", True),
        family="gpt2",
        dropout=Dropout(*(_share(config, name, 0.1) for name in ("embd_pdrop", "resid_pdrop", "attn_pdrop"))),
    )


def _share(config: Mapping[str, Any], name: str, unsaid: float = 0.0) -> float:
    """What training leaves out; `unsaid` is what transformers takes where nothing is said of it."""
    value = config.get(name, unsaid)
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ConfigError(f"config.json: {name} is {value!r}, not a number from 0 to less than 1")
    return float(value)


def _refuse(config: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if config.get(name):
            raise ConfigError(f"config.json: {config['model_type']} with {name} is not known here")


def _want(config: Mapping[str, Any], name: str, value: Any) -> None:
    if config.get(name, value) != value:
        raise ConfigError(f"config.json: {name} is {config[name]!r}; {config['model_type']} has {value!r} here")
