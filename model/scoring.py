"""Log-likelihoods in batches: what every evaluation is made of.

Requests are sorted by length and batched by a budget of padded tokens, not by their number (64 uneven rows can cost
more than one at a time); the head is applied at scored positions only. Padding stands on the right, where a causal
model never looks, so that a score does not depend on its neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.parallel import Workers
from model.transformer import Transformer

Progress = Callable[[int, int], None]

HEAD_TOKENS = 1024  # positions whose scores over the vocabulary are held at a time


@dataclass(frozen=True, slots=True)
class Window:
    """A row to be forwarded: `ids`, of which the last `scored` are predicted from all before them."""

    request: int
    ids: Sequence[int]
    scored: int


def score_continuations(
    model: Transformer,
    requests: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int = 8192,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> list[tuple[float, bool]]:
    """For each (context, continuation) of ids: log-likelihood in nats of the continuation, and whether it is greedy.

    Contexts that do not fit lose their beginning. A context must hold a token: `<|endoftext|>` where nothing else.
    """
    windows = []
    for index, (context, continuation) in enumerate(requests):
        if not context or not continuation:
            raise ValueError(f"request {index}: context and continuation must hold at least one token each")
        if len(continuation) > model.shape.context_length:
            raise ValueError(f"request {index}: a continuation of {len(continuation)} tokens exceeds the context")
        ids = [*context, *continuation][-(model.shape.context_length + 1) :]
        windows.append(Window(index, ids, len(continuation)))
    nats = np.zeros(len(requests))
    greedy = np.zeros(len(requests), bool)
    for window, lost, likeliest in _score(model, windows, token_budget, progress, workers):
        nats[window.request], greedy[window.request] = -lost, likeliest
    return list(zip(nats.tolist(), greedy.tolist(), strict=True))


def score_documents(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    stride: int | None = None,
    token_budget: int = 8192,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> list[float]:
    """Nats of each document: every token after the first is scored exactly once.

    Windows of `context_length` tokens start every `stride` tokens (default: half the context), and each scores only
    what no earlier window has: after the first, a token sees at least context - stride tokens before it. Record the
    stride with the figure: a smaller one gives lower and more honest figures at a higher cost.
    """
    stride = stride or max(1, model.shape.context_length // 2)
    windows = [
        Window(index, ids, scored)
        for index, document in enumerate(documents)
        for ids, scored in _document_windows(document, model.shape.context_length, stride)
    ]
    nats = np.zeros(len(documents))
    for window, lost, _ in sorted(
        _score(model, windows, token_budget, progress, workers), key=lambda row: row[0].request
    ):
        nats[window.request] += lost
    return nats.tolist()


def _document_windows(document: Sequence[int], context_length: int, stride: int) -> Iterator[tuple[Sequence[int], int]]:
    if not 0 < stride <= context_length:
        raise ValueError(f"stride {stride} must lie between 1 and the context length {context_length}")
    done = 1  # the first token has nothing before it
    while done < len(document):
        end = min(len(document), context_length + 1 if done == 1 else done + stride)
        yield document[max(0, end - context_length - 1) : end], end - done
        done = end


def _score(
    model: Transformer,
    windows: Sequence[Window],
    token_budget: int,
    progress: Progress | None,
    workers: Workers | None,
) -> list[tuple[Window, float, bool]]:
    """(window, nats lost, whether greedy) in the order given. What is put together depends on lengths alone."""
    order = sorted(range(len(windows)), key=lambda index: (-len(windows[index].ids), index))
    batches: list[list[int]] = []
    position = 0
    while position < len(order):
        rows = max(1, token_budget // (len(windows[order[position]].ids) - 1))
        batches.append(order[position : position + rows])
        position += rows
    results: dict[int, tuple[Window, float, bool]] = {}

    def score(members: list[int]) -> None:
        batch = [windows[index] for index in members]
        for index, window, (lost, greedy) in zip(members, batch, _score_batch(model, batch), strict=True):
            results[index] = window, lost, greedy
        if progress is not None:
            progress(len(results), len(order))

    (workers or Workers(1)).map(score, batches)
    return [results[index] for index in range(len(windows))]


@torch.inference_mode()
def _score_batch(model: Transformer, batch: Sequence[Window]) -> list[tuple[float, bool]]:
    time = max(len(window.ids) for window in batch) - 1
    inputs = np.zeros((len(batch), time), np.int64)
    rows, columns, targets = [], [], []
    for row, window in enumerate(batch):
        length = len(window.ids) - 1
        inputs[row, :length] = window.ids[:-1]
        rows.append(np.full(window.scored, row))
        columns.append(np.arange(length - window.scored, length))
        targets.append(np.asarray(window.ids[-window.scored :], np.int64))
    device = model.device
    at = torch.from_numpy(np.concatenate(rows)).to(device), torch.from_numpy(np.concatenate(columns)).to(device)
    chosen = torch.from_numpy(np.concatenate(targets)).to(device)
    hidden = model(torch.from_numpy(inputs).to(device))[at]
    nats, greedy = [], []
    for some, wanted in zip(hidden.split(HEAD_TOKENS), chosen.split(HEAD_TOKENS), strict=True):
        scores = model.logits(some)
        greedy.append(scores.argmax(dim=-1) == wanted)
        nats.append(torch.nn.functional.cross_entropy(scores, wanted, reduction="none"))
    lengths = [window.scored for window in batch]
    lost = torch.cat(nats).double().cpu().split(lengths)
    likeliest = torch.cat(greedy).cpu().split(lengths)
    return [(float(row.sum()), bool(flags.all())) for row, flags in zip(lost, likeliest, strict=True)]
