"""How sure a model is of each next token, and whether it is right: what calibration is measured on."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.likelihood import HEAD_PLACES, Progress, default_token_budget
from model.parallel import Workers
from model.transformer import Transformer

Confidences = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
Window = tuple[int, int, Sequence[int]]  # number of the document, where it starts there, ids


def next_token_confidences(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    token_budget: int | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> list[Confidences]:
    """For each document the probability of the likeliest token at every place after the first, and whether it stands
    there: two arrays (len(document) - 1,).

    Windows of `context_length` follow each other without overlap: every token is predicted once, from 0 to
    context_length - 1 tokens before it and the one that it follows.
    """
    length = model.shape.context_length
    windows = [
        (number, start, document[start : start + length + 1])
        for number, document in enumerate(documents)
        for start in range(0, len(document) - 1, length)
    ]
    windows.sort(key=lambda window: -len(window[2]))  # stable: equal lengths stay in order
    results: list[Confidences] = [
        (np.zeros(len(document) - 1), np.zeros(len(document) - 1, np.bool_)) for document in documents
    ]
    token_budget = default_token_budget(model) if token_budget is None else token_budget
    batches = []
    position = 0
    while position < len(windows):
        rows = max(1, token_budget // (len(windows[position][2]) - 1))
        batches.append(windows[position : position + rows])
        position += rows

    def predict(batch: list[Window]) -> list[Confidences]:
        return _confidences(model, [ids for _, _, ids in batch])

    done = 0
    for batch, found in zip(batches, (workers or Workers(1)).stream(predict, batches), strict=True):
        for (number, start, ids), (confidence, right) in zip(batch, found, strict=True):
            results[number][0][start : start + len(ids) - 1] = confidence
            results[number][1][start : start + len(ids) - 1] = right
        done += len(batch)
        if progress is not None:
            progress(done, len(windows))
    return results


@torch.inference_mode()
def _confidences(model: Transformer, batch: Sequence[Sequence[int]]) -> list[Confidences]:
    """Of windows of ids, the longest first; padding is on the right, where a causal model does not attend."""
    lengths = [len(ids) - 1 for ids in batch]
    ids = torch.zeros((len(batch), lengths[0] + 1), dtype=torch.int64)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = torch.tensor(window)
    ids = ids.to(model.device)
    real = (torch.arange(lengths[0]) < torch.tensor(lengths)[:, None]).to(model.device)
    hidden, targets = model(ids[:, :-1])[real], ids[:, 1:][real]
    confidence, right = [], []
    for some, wanted in zip(hidden.split(HEAD_PLACES), targets.split(HEAD_PLACES), strict=True):
        highest, likeliest = (scores := model.logits(some).float()).max(dim=-1)
        confidence.append((highest - scores.logsumexp(dim=-1)).exp().double().cpu().numpy())
        right.append((likeliest == wanted).cpu().numpy())
    ends = np.cumsum(lengths)[:-1]
    return list(zip(np.split(np.concatenate(confidence), ends), np.split(np.concatenate(right), ends), strict=True))
