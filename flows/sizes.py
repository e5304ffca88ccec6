"""What a model of a named size is and costs, before anything runs."""

from typing import Any

from model.cost import Device, cache_bytes, devices_filled_by, training_bytes, training_flop
from model.shape import SIZES, Shape
from storage.errors import ConfigError
from tasks.tokenize.tokenizer import TokenizerSection
from tasks.train.pretrain import PretrainConfig

VOCABULARY: int = TokenizerSection().vocabulary_size
WEIGHTS = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of one, as a model answers


def size_and_cost(name: str, vocabulary: int, tokens: int | None, price: float | None) -> dict[str, Any]:
    """The shape of a size, its operations and memory, and the time of its training on each measured device that it
    fills; with the price of an hour of a device also what that costs. `tokens`: None are those of the size.
    ConfigError for a name that no size has."""
    if name not in SIZES:
        raise ConfigError(f"NAME {name!r}: no such size; there are {', '.join(SIZES)}")
    config = PretrainConfig.model_validate({"size": name, "tokens": tokens})
    shape, tokens = config.shape(vocabulary), config.own_tokens
    flop = training_flop(shape)
    sizes = ("layers", "width", "heads", "key_value_heads", "feed_forward", "context_length", "tied_embeddings")
    return {
        "name": name,
        **{field: getattr(shape, field) for field in sizes},
        "vocabulary": vocabulary,
        "parameters": shape.parameters,
        "tokens": tokens,
        "batch_tokens": SIZES[name].batch_tokens,
        "flop_per_token": flop,
        "training_bytes": training_bytes(shape),
        "weight_bytes": {name: shape.parameters * width for name, width in WEIGHTS.items()},
        "cache_bytes": cache_bytes(shape),
        "devices": [_training_on(device, shape, tokens, price) for device in devices_filled_by(shape)],
    }


def _training_on(device: Device, shape: Shape, tokens: int, price: float | None) -> dict[str, Any]:
    hours = device.seconds(shape, tokens) / 3600
    cost = {} if price is None else {"cost": round(hours * price, 2)}
    speed = round(1 / device.seconds(shape, 1), 1)
    return {"device": device.name, "tokens_per_second": speed, "hours": round(hours, 3), **cost}
