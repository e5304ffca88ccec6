"""Log-likelihoods in batches: computes what the scorers of tasks/evaluate/scorers answer with.

What requests share at their beginning is computed once (model/prefixes.py). Rows are batched by a budget of padded
tokens, not by their number (64 uneven rows can cost more than one at a time), and the head is applied at scored
places only, once where several requests score the same. Padding is on the right, where a causal model never
attends, and a token sees its own request alone, so that no score depends on its neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.parallel import Workers
from model.prefixes import Group, Row, ancestors, attention_balance, lay_out, share_prefixes
from model.transformer import Transformer

Progress = Callable[[int, int], None]

HEAD_PLACES = 256  # whose scores over the vocabulary are held at a time; 1,024 take 1.6 times as long on a CPU


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens to be read: `ids`, of which the last `scored` are predicted from all before them."""

    request: int
    ids: Sequence[int]
    scored: int


def score_continuations(
    model: Transformer,
    requests: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int | None = None,
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
    return [(-lost, greedy) for lost, greedy in _score(model, windows, token_budget, progress, workers)]


def score_documents(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    stride: int | None = None,
    token_budget: int | None = None,
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
    for window, (lost, _) in zip(windows, _score(model, windows, token_budget, progress, workers), strict=True):
        nats[window.request] += lost
    return nats.tolist()


def _document_windows(document: Sequence[int], context_length: int, stride: int) -> Iterator[tuple[Sequence[int], int]]:
    if not 0 < stride <= context_length:
        raise ValueError(f"stride {stride} must be between 1 and the context length {context_length}")
    done = 1  # the first token has nothing before it
    while done < len(document):
        end = min(len(document), context_length + 1 if done == 1 else done + stride)
        yield document[max(0, end - context_length - 1) : end], end - done
        done = end


def _score(
    model: Transformer,
    windows: Sequence[Window],
    token_budget: int | None,
    progress: Progress | None,
    workers: Workers | None,
) -> list[tuple[float, bool]]:
    """(nats lost, whether greedy) of each window. What is put together depends on the windows alone."""
    token_budget = default_token_budget(model) if token_budget is None else token_budget
    inputs = [window.ids[:-1] for window in windows]
    context_length = model.shape.context_length
    longest = max(context_length, int((token_budget * context_length) ** 0.5))  # a whole budget in one row
    groups = share_prefixes(inputs, attention_balance(model.shape), longest)

    def score(batch: Sequence[Group]) -> list[tuple[int, float, bool]]:
        members = [number for group in batch for number in group.members]
        rows = [lay_out(group, inputs) for group in batch]
        return list(zip(members, *_score_rows(model, rows, [windows[number] for number in members]), strict=True))

    answers: dict[int, tuple[float, bool]] = {}
    for scored in (workers or Workers(1)).stream(score, batches(groups, token_budget, context_length)):
        answers.update((number, (lost, greedy)) for number, lost, greedy in scored)
        if progress is not None:
            progress(len(answers), len(windows))
    return [answers[number] for number in range(len(windows))]


def default_token_budget(model: Transformer) -> int:
    """Tokens of a batch, padding included: on a CPU what stays in its caches (8,192 take 1.3 times as long)."""
    return 2_048 if model.device.type == "cpu" else 8_192


def batches(groups: Sequence[Group], token_budget: int, context_length: int) -> list[list[Group]]:
    """Rows of about equal lengths, the longest first, up to a budget of padded tokens.

    A row beyond the context length counts more, by as much as its attention needs more memory.
    """
    found: list[list[Group]] = []
    for group in sorted(groups, key=lambda group: -group.tokens):
        longest = found[-1][0].tokens if found else 0
        if not found or (len(found[-1]) + 1) * longest * max(longest, context_length) > token_budget * context_length:
            found.append([])
        found[-1].append(group)
    return found


@torch.inference_mode()
def _score_rows(model: Transformer, rows: Sequence[Row], windows: Sequence[Window]) -> tuple[list[float], list[bool]]:
    """Nats lost and whether greedy, of the windows that are the rows' members."""
    longest = max(len(row.ids) for row in rows)
    ids, positions = np.zeros((2, len(rows), longest), np.int64)
    ends = np.full((len(rows), longest), longest)
    scored = []
    members = iter(windows)
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size], positions[number, :size] = row.ids, row.positions
        if row.branches:
            ends[number, :size] = row.ends
        scored += [number * longest + path[-next(members).scored :] for path in row.paths]
    hidden = _hidden_states(model, ids, positions, ends)
    targets = np.concatenate([np.asarray(window.ids[-window.scored :], np.int64) for window in windows])
    nats, likeliest = _predictions(model, hidden.flatten(0, 1), np.concatenate(scored), targets)
    starts = np.cumsum([0, *(window.scored for window in windows[:-1])])
    return np.add.reduceat(nats, starts).tolist(), np.logical_and.reduceat(likeliest, starts).tolist()


def _hidden_states(model: Transformer, *arrays: np.ndarray) -> Tensor:
    """Of ids, positions and ends of descendants (B, T)."""
    ids, positions, ends = (torch.from_numpy(array).to(model.device) for array in arrays)
    if bool((ends == ends.shape[1]).all()):  # plain sequences
        return model(ids)
    return model(ids, positions=positions, mask=ancestors(ends))


def _predictions(
    model: Transformer, hidden: Tensor, places: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nats lost on each target (N,), and whether it was the likeliest, at its place in `hidden` (places, D)."""
    unique, index = np.unique(places, return_inverse=True)
    order = np.argsort(index, kind="stable")
    nats, likeliest = np.empty(len(targets)), np.empty(len(targets), bool)
    for start in range(0, len(unique), HEAD_PLACES):
        first, last = np.searchsorted(index[order], (start, start + HEAD_PLACES))
        asked = order[first:last]
        at = torch.from_numpy(index[asked] - start).to(model.device)
        wanted = torch.from_numpy(targets[asked]).to(model.device)
        some = torch.from_numpy(unique[start : start + HEAD_PLACES]).to(model.device)
        scores = model.logits(hidden[some])
        nats[asked] = -torch.log_softmax(scores, dim=-1)[at, wanted].double().cpu().numpy()
        likeliest[asked] = _is_likeliest(scores, at, wanted).cpu().numpy()
    return nats, likeliest


def _is_likeliest(scores: Tensor, at: Tensor, wanted: Tensor) -> Tensor:
    """Whether `wanted` (N,) is what argmax gives in its row `at` (N,) of the scores (M, V). The largest score is found
    ten times as fast as its place, so that only the few rows are searched for which that decides between equals."""
    found = scores[at, wanted] == scores.amax(dim=-1)[at]
    found[found.clone()] = scores[at[found]].argmax(dim=-1) == wanted[found]
    return found
