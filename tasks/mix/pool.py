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
            taken, self._left = cut(self._left, tokens)
            tokens -= int(taken[2].sum())
            drawn.append(taken)
        return np.concatenate(drawn, axis=1)

    def _next_pass(self) -> Pieces:
        order = shuffled(self.pieces, self._seed, self._pass)
        self._pass += 1
        return order


def cut(pieces: Pieces, tokens: int) -> tuple[Pieces, Pieces]:
    """The first pieces, of so many tokens or all there are, and the rest; a piece across the border is parted."""
    whole = int(np.searchsorted(np.cumsum(pieces[2]), tokens, side="right"))  # pieces that fit
    taken, left = pieces[:, :whole], pieces[:, whole:]
    more = tokens - int(taken[2].sum())
    if not more or not left.shape[1]:
        return taken, left
    parted, left = left[:, :1].copy(), left.copy()
    parted[2] = more
    left[:, 0] += (0, more, -more)
    return np.concatenate([taken, parted], axis=1), left


def shuffled(pieces: Pieces, seed: int, epoch: int = 0) -> Pieces:
    """The pieces in another order."""
    from model.batches import permutation

    return pieces[:, permutation(pieces.shape[1], seed, epoch)]


def whole_documents(numbers: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Pieces:
    """Documents as pieces: `numbers` of some, `sizes` of all in tokens."""
    return np.stack([numbers, np.zeros_like(numbers), sizes[numbers]])
