"""How many tokens of each name a mix takes: fixed amounts first, then by weight, and none above its limit.

A temperature T weighs a name of n tokens by n ** (1 / T): 1 leaves languages as large as they are, 3 brings small ones
nearer to large ones (XLM-R has exponents of .3; Conneau et al. 2020, arXiv 1911.02116). The limit is that of repeated
data: up to four passes over a text are worth nearly as much as new text (Muennighoff et al. 2023, arXiv 2305.16264).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import DataError
from tasks.mix.config import OTHERS, MixingConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Amounts:
    """Tokens by name: what the recipe wants of each, and what it gets under the limits."""

    share: float  # of the training
    wanted: Floats
    given: Ints


def amounts(config: MixingConfig, names: Sequence[str], there: Ints) -> list[Amounts]:
    """The amounts of each phase; one phase where there are none. `there` is the tokens of one pass over each name."""
    left = np.floor(there * config.max_epochs)
    found = []
    for share, weights in [(phase.share, phase.weights) for phase in config.phases] or [(1.0, config.weights)]:
        wanted = _wanted(config, names, there, weights, share * config.total)
        given = _whole(_within(wanted, left))
        left -= given
        found.append(Amounts(share, wanted, given))
    return found


def _wanted(
    config: MixingConfig, names: Sequence[str], there: Ints, weights: Mapping[str, float], total: float
) -> Floats:
    fixed = {name: float(tokens) for name, tokens in config.budgets.items()}
    fixed |= {name: passes * float(there[names.index(name)]) for name, passes in config.epochs.items()}
    wanted = np.array([fixed.get(name, 0.0) for name in names])
    rest = total - wanted.sum()
    shares = _shares(names, there, weights, config.temperature, fixed)
    if not shares.any():  # every name has an amount
        return wanted
    if rest <= 0:
        raise DataError(
            f"mix: collect.mix.tokens and epochs ask for {wanted.sum():,.0f} tokens, and the whole mix has "
            f"{total:,.0f}: nothing is left for the others. Lower them, raise pretrain.tokens, or leave the others out "
            "with collect.mix.weights={'*': 0}"
        )
    return wanted + rest * shares


def _shares(
    names: Sequence[str], there: Ints, weights: Mapping[str, float], temperature: float, fixed: Mapping[str, float]
) -> Floats:
    """What part each name without an amount has of the rest; together 1, or all 0 where there is none."""
    weights = weights or {OTHERS: 1.0}
    is_other = np.array([name not in weights and name not in fixed for name in names])
    tempered = np.where(is_other & (there > 0), np.maximum(there, 1) ** (1 / temperature), 0.0)
    shares = np.array([weights.get(name, 0.0) for name in names])
    if OTHERS in names:  # too many to be told apart: they are one name, whose weight is that of all
        shares[is_other] = weights.get(OTHERS, 0.0)
    elif tempered.any():
        shares += weights.get(OTHERS, 0.0) * tempered / tempered.sum()
    total = shares.sum()
    return shares / total if total else shares


def _within(wanted: Floats, most: Floats) -> Floats:
    """The wanted amounts, none above its limit; what is cut off goes to the others in proportion, as far as it can."""
    given, total = np.minimum(wanted, most), wanted.sum()
    while True:
        missing = total - given.sum()
        open_ = (wanted > 0) & (given < most)
        if missing < 1 or not open_.any():
            return given
        given = np.where(open_, np.minimum(most, given + missing * wanted / wanted[open_].sum()), given)


def _whole(given: Floats) -> Ints:
    """Whole tokens with the same sum: those with the largest remainders are rounded up."""
    whole = np.floor(given + 1e-9)
    up = round(given.sum() - whole.sum())
    whole[np.argsort(whole - given, kind="stable")[:up]] += 1
    return whole.astype(np.int64)
