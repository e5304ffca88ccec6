"""Text, one token at a time, with a cache of keys and values."""

import math
from collections.abc import Collection, Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from model.cache import KeyValueCache
from model.transformer import Transformer, load_model
from storage.errors import DataError

__all__ = ["Ending", "generate", "load_model", "sample", "search"]

Ending = Literal["stop", "length"]  # a stop id, or as many tokens as are allowed


def generate(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Generator[int, None, Ending]:
    """Yield the tokens that follow `ids`, until a stop id (not yielded), `max_new_tokens`, or a full context.

    The generator's value says which: `stop` for a stop id, else `length`.
    Temperature 0 takes the most likely token; otherwise the same seed gives the same tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        cache = _empty_cache(model, ids, max_new_tokens)
        newest = torch.tensor([list(ids)], device=model.device)
    for _ in range(max_new_tokens):
        with torch.inference_mode():  # entered again for each token: a generator must not leave it on for its caller
            scores = model.logits(model(newest, cache)[0, -1]).cpu()
            token = sample(scores, temperature, top_p, generator)
            newest = torch.tensor([[token]], device=model.device)
        if token in stop_ids:
            return "stop"
        yield token
        if cache.lengths[0] == model.shape.context_length:
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


@torch.inference_mode()
def search(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    beams: int,
    no_repeat: int = 0,
    stop_ids: Collection[int] = (),
) -> tuple[list[int], Ending]:
    """The likeliest tokens to follow `ids` that beam search finds, and why they end.

    The `beams` likeliest beginnings go on, token by token. One that ends is an answer if it is among them; its score
    is the sum of its log-probabilities, that of the stop id included. So do transformers' `num_beams` with
    `length_penalty=0.0` and `early_stopping="never"`.

    No answer says the same `no_repeat` tokens in a row twice; 0 lets it. (transformers' rule of that kind counts the
    prompt too, whose words an answer is to take up.)
    """
    cache = _empty_cache(model, ids, max_new_tokens)
    most = min(max_new_tokens, model.shape.context_length - len(ids) + 1)
    newest, beginnings, scores = torch.tensor([list(ids)], device=model.device), [list[int]()], torch.zeros(1)
    best: tuple[list[int], Ending] = ([], "length")
    best_score = -math.inf
    for length in range(1, most + 1):
        steps = torch.log_softmax(model.logits(model(newest, cache)[:, -1]), dim=-1).cpu()
        for step, beginning in zip(steps, beginnings, strict=True):
            step[_repeating(beginning, no_repeat)] = -math.inf
        # Enough to go on with `beams` of them even where the first ones all end.
        candidates = _likeliest(scores[:, None] + steps, beams * (1 + len(stop_ids)))
        for score, row, token in candidates[:beams]:
            ends = token in stop_ids
            if score > best_score and (ends or length == most):
                best_score = score
                best = (beginnings[row], "stop") if ends else ([*beginnings[row], token], "length")
        going = [candidate for candidate in candidates if candidate[2] not in stop_ids][:beams]
        if not going or going[0][0] <= best_score:  # scores only fall
            break
        beginnings = [[*beginnings[row], token] for _, row, token in going]
        scores = torch.tensor([score for score, _, _ in going])
        newest = torch.tensor([[token] for _, _, token in going], device=model.device)
        cache.take([row for _, row, _ in going])
    return best


def _likeliest(scores: Tensor, count: int) -> list[tuple[float, int, int]]:
    """(score, row, column) of the highest scores (rows, V), the highest first."""
    top = scores.flatten().topk(min(count, scores.numel()))
    return [
        (score, *divmod(place, scores.shape[1]))
        for score, place in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        if score > -math.inf
    ]


def _repeating(tokens: list[int], size: int) -> list[int]:
    """The tokens that may not follow, so that no `size` tokens in a row are there a second time."""
    if size == 0:
        return []
    newest, starts = tokens[len(tokens) - size + 1 :], range(len(tokens) - size + 1)
    return [tokens[start + size - 1] for start in starts if tokens[start : start + size - 1] == newest]


def _empty_cache(model: Transformer, ids: Sequence[int], max_new_tokens: int) -> KeyValueCache:
    """Room for a prompt and what follows; DataError for a prompt that leaves none in the context."""
    if not 0 < len(ids) < model.shape.context_length:
        raise DataError(
            f"the prompt has {len(ids)} tokens; this model takes 1 to {model.shape.context_length - 1} "
            f"(context_length {model.shape.context_length}): shorten it"
        )
    capacity = min(model.shape.context_length, len(ids) + max_new_tokens)
    return KeyValueCache(model.shape, 1, capacity, model.device, model.compute_dtype)
