"""Masked words: tokens of a text are hidden, and an encoder says what stood there (BERT; Devlin et al. 2019, 3.1).

Of packed rows a share of the tokens are targets. In training 80 % of these are shown as the mask token, 10 % as any
token of the vocabulary and 10 % as what they are, so that what a token is told apart by is not the mask alone. Held-out
targets are all shown as the mask. What begins a document is never hidden. Which tokens these are follows from a hash of
(seed, step), and on held-out documents from their place: the same tokens each time.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batches import IGNORED, PADDED_TO, Batch, IntArray, hashes
from model.packed import PhasedBatches
from model.parallel import Workers
from model.transformer import Transformer
from storage.errors import DataError

SHOWN_AS_MASK, SHOWN_AS_ANY = 0.8, 0.1  # shares of the targets; the rest is shown as it is
HIDING_STREAM = 2  # beside the seeds of orders (model/batches.py)
TOKENS_AT_ONCE = 4_096

Row = tuple[IntArray, npt.NDArray[np.bool_]]  # the tokens of a piece of text, and which of them are hidden


def hidden_tokens(ids: IntArray, share: float, beginning: int, seed: int, number: int) -> npt.NDArray[np.bool_]:
    """Which tokens are targets: each with the probability `share`, but those that begin a document."""
    chosen = _fractions(ids.size, seed + HIDING_STREAM, number).reshape(ids.shape) < share
    return chosen & (ids != beginning)


def _fractions(length: int, seed: int, number: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), by hash."""
    return (hashes(length, seed, number) >> np.uint64(11)) / float(1 << 53)


class MaskedBatches:
    """Packed batches whose rows are shown with hidden tokens, which are their targets."""

    def __init__(
        self, packed: PhasedBatches, share: float, beginning: int, mask_token: int, vocabulary_size: int, seed: int
    ) -> None:
        self.packed, self.share, self.beginning, self.seed = packed, share, beginning, seed
        self.mask_token, self.vocabulary_size = mask_token, vocabulary_size

    @property
    def bytes_per_token(self) -> float:
        return 0.0  # what is filled in is no whole text

    def held(self, step: int) -> str:
        return self.packed.held(step)

    def batch(self, step: int) -> Batch:
        ids = self.packed.batch(step).inputs
        hidden = hidden_tokens(ids, self.share, self.beginning, self.seed, step)
        how = _fractions(2 * ids.size, self.seed + HIDING_STREAM + 1, step).reshape(2, *ids.shape)
        others = (how[1] * self.vocabulary_size).astype(np.int64)
        shown = np.where(how[0] < SHOWN_AS_MASK, self.mask_token, ids)
        shown = np.where((how[0] >= SHOWN_AS_MASK) & (how[0] < SHOWN_AS_MASK + SHOWN_AS_ANY), others, shown)
        return Batch(np.where(hidden, shown, ids), np.where(hidden, ids, IGNORED))


class MaskedValidation:
    """Held-out documents with hidden tokens: the mean loss in nats of one, the share that is filled in rightly, and the
    share that is the most frequent of them, which a model reaches that reads nothing.

    `outcomes` (hidden tokens, 3): the number of its document, whether it is filled in rightly, and whether it is the
    most frequent.
    """

    headline = "loss"
    outcomes: npt.NDArray[np.float64] | None = None

    def __init__(self, documents: Sequence[Sequence[int]], share: float, beginning: int) -> None:
        self.documents, self.share, self.beginning = documents, share, beginning

    def rows(self, context_length: int) -> list[Row]:
        """Documents in pieces of one context, and which of their tokens are hidden."""
        pieces = [
            np.asarray(document[start : start + context_length], np.int64)
            for document in self.documents
            for start in range(0, len(document), context_length)
        ]
        return [(ids, hidden_tokens(ids, self.share, self.beginning, 0, row)) for row, ids in enumerate(pieces)]

    def figures(self, model: Transformer, workers: Workers) -> dict[str, float]:
        length = model.shape.context_length
        owners = [number for number, one in enumerate(self.documents) for _ in range(0, len(one), length)]
        asked = [one for one in zip(self.rows(length), owners, strict=True) if one[0][1].any()]
        if not asked:
            raise DataError(
                "no token of the held-out documents is hidden: raise pretrain.masked_share, or give more text"
            )
        asked.sort(key=lambda one: len(one[0][0]))
        rows = [row for row, _ in asked]
        found = list(workers.stream(lambda batch: _fill(model, batch), _batches(rows)))
        nats, right = (torch.cat([one[place] for one in found]).double() for place in (0, 1))
        true = np.concatenate([ids[hidden] for ids, hidden in rows])
        frequent = true == np.bincount(true).argmax()
        document = np.repeat([owner for _, owner in asked], [int(hidden.sum()) for _, hidden in rows])
        self.outcomes = np.column_stack((document, right.numpy(), frequent)).astype(np.float64)
        return {"loss": float(nats.mean()), "accuracy": float(right.mean()), "most_frequent": float(frequent.mean())}


@torch.inference_mode()  # here: a thread of the workers does not know the mode of its caller
def _fill(model: Transformer, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Of each hidden token the loss in nats, and whether the likeliest is it."""
    time = min(-(-max(len(ids) for ids, _ in rows) // PADDED_TO) * PADDED_TO, model.shape.context_length)
    shown, targets = np.zeros((len(rows), time), np.int64), np.full((len(rows), time), IGNORED, np.int64)
    for row, (ids, hidden) in enumerate(rows):
        shown[row, : len(ids)] = np.where(hidden, model.shape.mask_token, ids)
        targets[row, : len(ids)] = np.where(hidden, ids, IGNORED)
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    inside = (torch.arange(time) < lengths[:, None]).to(model.device)
    hidden_states = model(torch.from_numpy(shown).to(model.device), mask=inside[:, None, None, :])
    wanted = torch.from_numpy(targets).to(model.device)
    asked = wanted != IGNORED
    scores = model.logits(hidden_states[asked])
    nats = F.cross_entropy(scores, wanted[asked], reduction="none")
    return nats.cpu(), (scores.argmax(dim=-1) == wanted[asked]).cpu()


def _batches(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of like length together, up to so many tokens."""
    found: list[list[Row]] = []
    for row in rows:
        if not found or (len(found[-1]) + 1) * len(row[0]) > TOKENS_AT_ONCE:
            found.append([])
        found[-1].append(row)
    return found
