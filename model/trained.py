"""The parameters that are trained, as a process holds them: all of each, or its rows where the model is sharded."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from model.lora import trained
from model.ranks import Ranks
from model.weights import check_tensors


class Trained:
    """The trained parameters of a model, by name."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.parameters, self._ranks = trained(model), ranks

    @property
    def numbers(self) -> int:
        """How many they are."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def pieces(self) -> dict[str, Tensor]:
        """What this rank saves of them."""
        return self._ranks.pieces({name: parameter.detach() for name, parameter in self.parameters.items()})

    def copy(self) -> dict[str, Tensor]:
        """What this rank holds of them now."""
        return {name: self._ranks.local(parameter).detach().clone() for name, parameter in self.parameters.items()}

    def held(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this rank holds of tensors that were saved in pieces."""
        return {name: self._ranks.piece(tensor) for name, tensor in saved.items()}

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Put in what was saved in pieces; DataError if it is not of these parameters."""
        check_tensors("the checkpoint", self.parameters, saved)
        self.put_back(self.held(saved))

    @torch.no_grad()
    def put_back(self, copy: Mapping[str, Tensor]) -> None:
        """Put in what `copy` has given."""
        for name, parameter in self.parameters.items():
            self._ranks.local(parameter).copy_(copy[name])

    def whole(self) -> Iterator[tuple[str, Tensor]]:
        """Each of them whole, on every rank, one after another."""
        for name, parameter in self.parameters.items():
            yield name, self._ranks.whole(parameter.detach())
