"""Text, one token at a time, with a cache of keys and values."""

from collections.abc import Collection, Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from model.transformer import KeyValueCache, Transformer, load_model
from storage.errors import DataError

__all__ = ["generate", "load_model", "sample"]


def generate(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Generator[int, None, Literal["stop", "length"]]:
    """Yield the tokens that follow `ids`, until a stop id (not yielded), `max_new_tokens`, or a full context.

    The generator's value says which: `stop` for a stop id, else `length`.
    Temperature 0 takes the most likely token; otherwise the same seed gives the same tokens.
    """
    capacity = min(model.shape.context_length, len(ids) + max_new_tokens)
    if not 0 < len(ids) < model.shape.context_length:
        raise DataError(
            f"the prompt has {len(ids)} tokens; this model takes 1 to {model.shape.context_length - 1} "
            f"(context_length {model.shape.context_length}): shorten it"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        cache = KeyValueCache(model.shape, 1, capacity, model.device, model.compute_dtype)
        newest = torch.tensor([list(ids)], device=model.device)
    for _ in range(max_new_tokens):
        with torch.inference_mode():  # entered anew for each token: a generator must not leave it on for its caller
            scores = model.logits(model(newest, cache)[0, -1]).cpu()
            token = sample(scores, temperature, top_p, generator)
            newest = torch.tensor([[token]], device=model.device)
        if token in stop_ids:
            return "stop"
        yield token
        if cache.length == model.shape.context_length:
            break
    return "length"


def sample(scores: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token from scores (V,) on the CPU: greedy at temperature 0, else from the smallest set of the most
    likely tokens whose probability reaches `top_p` (Holtzman et al. 2020)."""
    if temperature == 0:
        return int(scores.argmax())
    scores = scores.double()
    scores = (scores - scores.max()) / temperature  # no temperature above 0 makes the likeliest infinite
    probabilities, order = torch.softmax(scores, dim=-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(0) - probabilities
    probabilities[before >= top_p] = 0.0
    probabilities[0].clamp_(min=1e-300)  # top_p 0 means the most likely token
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])
