"""Keys and values of the tokens already read, so that a further token costs itself alone.

The rows of a batch have lengths of their own: texts at different positions are gone on with together. A `window` is
some neighbouring rows in the same memory, so that a text can be read into one row while the others wait, and rows that
are gone on with together lie together (`swap`). What a row gives does not depend on its neighbours but for the last
digits of sums, whose order follows the sizes of tensors. While all rows are equally long, as in a search, nothing is
masked by row or copied by index.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.shape import Shape


class KeyValueCache:
    """For one batch: two tensors (layers, B, K, capacity, E), of which the first `lengths[row]` places are read.

    A forward pass calls `reserve`, then for each layer `extend`, then `advance`.
    """

    def __init__(self, shape: Shape, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        size = (shape.layers, batch, shape.key_value_heads, capacity, shape.head_dim)
        self.keys = torch.zeros(size, device=device, dtype=dtype)
        self.values = torch.zeros(size, device=device, dtype=dtype)
        self.lengths = [0] * batch
        self._time = self._end = 0  # of the pass under way: new tokens a row, and where the longest row ends
        self._places: slice | Tensor = slice(0)  # of the new tokens in each row; or in a whole layer (B * K * T)

    def reserve(self, time: int) -> tuple[slice | Tensor, Tensor | None]:
        """Begin a pass over `time` further tokens of each row: their positions, a slice or (B, T), and what is added to
        the scores of what each sees, 0 or minus infinity, (T, end) or (B, 1, T, end); None where each sees all."""
        start, device = self.lengths[0], self.keys.device
        self._time, self._end = time, max(self.lengths) + time
        ends = torch.arange(self._end, device=device)
        if all(length == start for length in self.lengths):
            self._places = slice(start, self._end)
            return self._places, None if time == 1 else self._hidden(ends > ends[start:, None])
        places = torch.tensor(self.lengths, device=device)[:, None] + ends[:time]
        heads = torch.arange(self.keys.shape[1] * self.keys.shape[2], device=device).view(len(places), -1, 1)
        self._places = (heads * self.keys.shape[3] + places[:, None]).flatten()
        return places, self._hidden(ends > places[:, None, :, None])

    def _hidden(self, unseen: Tensor) -> Tensor:
        return torch.zeros(unseen.shape, device=unseen.device, dtype=self.keys.dtype).masked_fill_(unseen, -torch.inf)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, K, T, E) of the newest tokens; returns all those of the layer so far."""
        for whole, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if isinstance(self._places, slice):
                whole[:, :, self._places] = new
            else:
                whole.view(-1, whole.shape[-1]).index_copy_(0, self._places, new.reshape(-1, whole.shape[-1]))
        return self.keys[layer, :, :, : self._end], self.values[layer, :, :, : self._end]

    def advance(self) -> None:
        """End a pass: its tokens are read."""
        self.lengths = [length + self._time for length in self.lengths]

    def take(self, rows: Sequence[int]) -> None:
        """Make the batch of these of its rows, in this order; a row may be taken more than once."""
        chosen = torch.tensor(rows, device=self.keys.device)
        self.keys, self.values = self.keys[:, chosen], self.values[:, chosen]
        self.lengths = [self.lengths[row] for row in rows]

    def window(self, start: int, lengths: Sequence[int]) -> "KeyValueCache":
        """Rows from `start` on in the same memory, one for each of these lengths, as a cache of their own.

        What a pass over the window writes is here too; whoever made it keeps count of lengths.
        """
        window = object.__new__(KeyValueCache)
        rows = slice(start, start + len(lengths))
        window.keys, window.values, window.lengths = self.keys[:, rows], self.values[:, rows], list(lengths)
        return window

    def swap(self, one: int, other: int, length: int) -> None:
        """Let two rows change places; `length` places of each are read."""
        for tensor in (self.keys, self.values):
            kept = tensor[:, one, :, :length].clone()
            tensor[:, one, :, :length] = tensor[:, other, :, :length]
            tensor[:, other, :, :length] = kept

    def copy(self, source: int, target: int, length: int) -> None:
        """Give the row `target` the first `length` places of another."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]
