"""Learning from preferences: of two answers to a prompt, which one people chose.

A set of preferences is a set of examples with each chosen answer before its rejected one, and in `reference.npy` the
log-likelihoods of all of them under the model that training starts from, worked out once. Two losses, in terms of the
log-likelihood p of an answer and r, that of the reference:

- `dpo` (Rafailov et al. 2023, arXiv 2305.18290, equation 7): -log sigmoid(beta x), where x is p - r of the chosen
  answer less that of the rejected one;
- `simpo` (Meng et al. 2024, arXiv 2405.14734, equation 6): -log sigmoid(beta x - margin), where x is p / tokens of the
  chosen answer less that of the rejected one, without a reference.

Either is a function of the answers' likelihoods alone. So these are worked out first, then how much each token's loss
counts, and one weighted cross-entropy has the gradient: the scores over the vocabulary are never held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batches import Batch, Example, ExampleSet, LengthPools
from model.likelihood import score_continuations
from model.parallel import Workers
from model.transformer import Transformer
from storage.errors import ConfigError, DataError

REFERENCE = "reference.npy"
TIE = 1e-4  # rewards that differ by less are equal: last digits follow from how rows are put together

Likelihoods = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Preference:
    """Which loss, and its settings: `beta` weighs the difference of likelihoods, `margin` is what SimPO asks for."""

    method: Literal["dpo", "simpo"]
    beta: float
    margin: float = 0.0


def needed(settings: Preference | None) -> Preference:
    """The settings; ConfigError where there are none."""
    if settings is None:
        raise ConfigError("preference: learning from preferences needs its settings")
    return settings


def reward_gaps(settings: Preference, likelihoods: Tensor, tokens: Tensor, reference: Tensor) -> Tensor:
    """By how much each chosen answer is rewarded more than the rejected one: (rows,) three times -> (rows / 2,)."""
    rewards = likelihoods - reference if settings.method == "dpo" else likelihoods / tokens
    return settings.beta * (rewards[0::2] - rewards[1::2])


def preference_losses(settings: Preference, gaps: Tensor) -> Tensor:
    """The loss of each preference, in nats."""
    return -F.logsigmoid(gaps - (settings.margin if settings.method == "simpo" else 0.0))


def token_weights(settings: Preference, nats: Tensor, tokens: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss of rows whose answers lose so many nats, and its derivative by the nats of each row."""
    nats = nats.detach().requires_grad_()
    with torch.enable_grad():
        loss = preference_losses(settings, reward_gaps(settings, -nats, tokens, reference)).sum()
        (slope,) = torch.autograd.grad(loss, nats)
    return loss.detach(), slope


# Data -----------------------------------------------------------------------------------------------------------


class PreferenceSet:
    """Pairs of answers at rest; `rows` counts answers."""

    def __init__(self, folder: Path) -> None:
        self.examples = ExampleSet(folder)
        try:
            self.reference: Likelihoods = np.load(folder / REFERENCE, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder}: not a set of preferences ({error})") from error
        if len(self.reference) != len(self.examples) or len(self.examples) % 2:
            raise DataError(f"{folder}: not a set of preferences: answers and their likelihoods differ in number")

    @staticmethod
    def write(folder: Path, examples: Sequence[Example], reference: Sequence[float]) -> None:
        """Write answers, each chosen one before its rejected one; equal bytes for equal ones."""
        ExampleSet.write(folder, examples)
        np.save(folder / REFERENCE, np.asarray(reference, np.float64), allow_pickle=False)

    def batch(self, chosen: npt.NDArray[np.int64]) -> Batch:
        """The chosen preferences, two rows each."""
        rows = np.column_stack((2 * chosen, 2 * chosen + 1)).ravel()
        batch = self.examples.batch(rows)
        return Batch(batch.inputs, batch.targets, together=2, reference=self.reference[rows])


class PreferenceBatches:
    """`preferences` a step, in a new order each epoch, those of like length together."""

    bytes_per_token = float("nan")  # the loss is none of a text

    def __init__(self, data: PreferenceSet, preferences: int, seed: int) -> None:
        if not len(data.examples):
            raise DataError("no preference to train on")
        self._data = data
        lengths = data.examples.lengths.reshape(-1, 2).max(axis=1)
        self._pools = LengthPools(lengths, preferences, seed)

    def batch(self, step: int) -> Batch:
        return self._data.batch(self._pools.batch(step))

    def held(self, step: int) -> str:
        return self._pools.held(step)


class PreferenceValidation:
    """Held-out preferences: the loss, the share that is rewarded rightly, and by how many nats of reward on average.
    `outcomes` (preferences, 2): whether it is, a tie being half, and by how many nats.

    In float32, as the reference is: bfloat16 rounds by more than a model differs from itself of some steps ago.
    """

    headline = "loss"
    outcomes: Likelihoods | None = None

    def __init__(self, data: PreferenceSet, settings: Preference) -> None:
        if not len(data.examples):
            raise DataError("no held-out preference to measure the model on: raise collect.heldout_fraction")
        self._settings = settings
        self._requests = data.examples.requests()
        self._reference = torch.from_numpy(data.reference)

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]:
        trained_in, model.compute_dtype = model.compute_dtype, torch.float32
        try:
            scored = [nats for nats, _ in score_continuations(model, self._requests, workers=workers)]
        finally:
            model.compute_dtype = trained_in
        tokens = torch.tensor([len(answer) for _, answer in self._requests], dtype=torch.float64)
        gaps = reward_gaps(self._settings, torch.tensor(scored, dtype=torch.float64), tokens, self._reference)
        wins = (gaps > TIE).double() + (gaps.abs() <= TIE).double() / 2
        self.outcomes = torch.stack((wins, gaps), dim=1).numpy()
        return {
            "loss": float(preference_losses(self._settings, gaps).mean()),
            "win_rate": float(wins.mean()),
            "margin": float(gaps.mean()),
        }
