"""Which token follows: the likeliest, or one drawn from the likeliest by a request's own numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from storage.errors import DataError

Ending = Literal["stop", "length"]  # a stop id, or as many tokens as are allowed
FEW = 64  # of the likeliest tokens are sorted first; they seldom leave out a token that may be drawn


@dataclass(frozen=True, slots=True)
class Choice:
    """How a token is chosen: at temperature 0 the likeliest, else one drawn, by the same numbers for the same seed,
    from the smallest set of the likeliest whose probability reaches `top_p` (Holtzman et al. 2020)."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Choice()


class Dice:
    """Numbers in [0, 1) from a seed, one for each token that is drawn."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def roll(self) -> float:
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


def check_prompt(context_length: int, ids: Sequence[int]) -> None:
    """Raise DataError for a prompt of no tokens, or of so many that nothing can follow in the context."""
    if not 0 < len(ids) < context_length:
        raise DataError(
            f"the prompt has {len(ids)} tokens; this model takes 1 to {context_length - 1} "
            f"(context_length {context_length}): shorten it"
        )


def choose(scores: Tensor, choices: Sequence[Choice], dice: Sequence[Dice]) -> list[int]:
    """A token for each row of scores (B, V) on the CPU. What a row gives does not depend on the others."""
    tokens = scores.numpy().argmax(axis=-1).tolist()  # torch's takes twenty times as long over a few rows
    drawn = [row for row, choice in enumerate(choices) if choice.temperature > 0]
    if not drawn:
        return list(tokens)
    warm = scores[drawn].double()
    temperatures = torch.tensor([[choices[row].temperature] for row in drawn], dtype=torch.float64)
    # no temperature above 0 makes the likeliest infinite
    probabilities = torch.softmax((warm - warm.amax(dim=-1, keepdim=True)) / temperatures, dim=-1)
    for row, among in zip(drawn, probabilities, strict=True):
        tokens[row] = _draw(among, choices[row].top_p, dice[row].roll())
    return list(tokens)


def _draw(probabilities: Tensor, top_p: float, number: float) -> int:
    """The token (of V) at which the sum of probabilities passes a share `number` of the whole."""
    if top_p >= 1:
        return _passing(probabilities.cumsum(0), number)
    few = FEW
    while True:
        top = probabilities.topk(min(few, len(probabilities)))
        sums = top.values.cumsum(0)
        if sums[-1] >= top_p or len(sums) == len(probabilities):
            break
        few *= 16
    kept = 1 + int((sums < top_p).sum())  # top_p 0 means the likeliest
    return int(top.indices[_passing(sums[:kept], number)])


def _passing(sums: Tensor, number: float) -> int:
    """The first place whose sum is more than a share of the last sum; never one that adds nothing."""
    whole = sums[-1]
    return min(int(torch.searchsorted(sums, whole * number, right=True)), int(torch.searchsorted(sums, whole)))
