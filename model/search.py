"""Beam search: the likeliest answer as a whole, where a step at a time takes the likeliest token."""

import math
from collections.abc import Collection, Generator, Sequence

import torch
from torch import Tensor

from model.cache import KeyValueCache
from model.sampling import Ending, check_prompt
from model.transformer import Transformer

Found = tuple[list[int], Ending]


def search(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    beams: int,
    no_repeat: int = 0,
    stop_ids: Collection[int] = (),
) -> Found:
    """The likeliest tokens to follow `ids` that beam search finds, and why they end.

    The `beams` likeliest beginnings go on, token by token. One that ends is an answer if it is among them; its score
    is the sum of its log-probabilities, that of the stop id included. So do transformers' `num_beams` with
    `length_penalty=0.0` and `early_stopping="never"`.

    No answer says the same `no_repeat` tokens in a row twice; 0 lets it. (transformers' rule of that kind counts the
    prompt too, whose words an answer is to take up.)
    """
    steps = search_steps(model, ids, max_new_tokens, beams, no_repeat, stop_ids)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Found = end.value
            return found


def search_steps(
    model: Transformer,
    ids: Sequence[int],
    max_new_tokens: int,
    beams: int,
    no_repeat: int = 0,
    stop_ids: Collection[int] = (),
) -> Generator[None, None, Found]:
    """`search`, which lets others go on after each token."""
    check_prompt(model.shape.context_length, ids)
    with torch.inference_mode():
        capacity = min(model.shape.context_length, len(ids) + max_new_tokens)
        cache = KeyValueCache(model.shape, 1, capacity, model.device, model.compute_dtype)
        newest = torch.tensor([list(ids)], device=model.device)
    most = min(max_new_tokens, model.shape.context_length - len(ids) + 1)
    beginnings, sums = [list[int]()], [0.0]
    best: Found = ([], "length")
    best_score = -math.inf
    for length in range(1, most + 1):
        with torch.inference_mode():  # entered again for each token: a generator must not leave it on for its caller
            steps = torch.log_softmax(model.logits(model(newest, cache)[:, -1]), dim=-1).cpu()
            for step, beginning in zip(steps, beginnings, strict=True):
                step[_repeating(beginning, no_repeat)] = -math.inf
            # Enough to go on with `beams` of them even where the first ones all end.
            candidates = _likeliest(torch.tensor(sums)[:, None] + steps, beams * (1 + len(stop_ids)))
        for score, row, token in candidates[:beams]:
            ends = token in stop_ids
            if score > best_score and (ends or length == most):
                best_score = score
                best = (beginnings[row], "stop") if ends else ([*beginnings[row], token], "length")
        going = [candidate for candidate in candidates if candidate[2] not in stop_ids][:beams]
        if not going or going[0][0] <= best_score:  # scores only fall
            break
        beginnings, sums = [[*beginnings[row], token] for _, row, token in going], [score for score, _, _ in going]
        with torch.inference_mode():
            newest = torch.tensor([[token] for _, _, token in going], device=model.device)
            cache.take([row for _, row, _ in going])
        yield
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
