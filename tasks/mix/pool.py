"""Documents to draw from, without end: each is drawn once before any is drawn again."""

import numpy as np
import numpy.typing as npt

from storage.token_order import Pieces

NOTHING: Pieces = np.empty((3, 0), np.int64)


class Pool:
    """Whole passes over pieces, each pass in a new order. A draw goes on where the one before it ended.

    Memory: about 100 bytes a piece while a pass is drawn.
    """

    def __init__(self, pieces: Pieces, seed: int) -> None:
        self.pieces, self._seed = pieces, seed
        self._pass, self._left = 0, NOTHING

    @property
    def tokens(self) -> int:
        """Of one pass."""
        return int(self.pieces[2].sum())

    def draw(self, tokens: int) -> Pieces:
        """Pieces of exactly so many tokens, the last one cut where it must be; nothing of an empty pool."""
        drawn = [NOTHING]
        while tokens > 0 and self.tokens:
            if not self._left.shape[1]:
                self._left = self._next_pass()
            ends = np.cumsum(self._left[2])
            whole = int(np.searchsorted(ends, tokens, side="right"))  # pieces that fit
            taken, self._left = self._left[:, :whole], self._left[:, whole:]
            tokens -= int(taken[2].sum())
            if tokens and self._left.shape[1]:
                cut, self._left = self._left[:, :1].copy(), self._left.copy()
                cut[2] = tokens
                self._left[:, 0] += (0, tokens, -tokens)
                taken, tokens = np.concatenate([taken, cut], axis=1), 0
            drawn.append(taken)
        return np.concatenate(drawn, axis=1)

    def _next_pass(self) -> Pieces:
        order = shuffled(self.pieces, self._seed, self._pass)
        self._pass += 1
        return order


def shuffled(pieces: Pieces, seed: int, epoch: int = 0) -> Pieces:
    """The pieces in another order."""
    from model.batches import permutation

    return pieces[:, permutation(pieces.shape[1], seed, epoch)]


def whole_documents(numbers: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Pieces:
    """Documents as pieces: `numbers` of some, `sizes` of all in tokens."""
    return np.stack([numbers, np.zeros_like(numbers), sizes[numbers]])
