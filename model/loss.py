"""Cross-entropy over a large vocabulary without ever holding all its scores.

Scores of every token over the whole vocabulary are the largest thing in a small model's step: 2,048 tokens by 4,096
words are 33 MB written, read and kept for the backward pass. Here rows are taken in chunks that stay in the cache,
and the gradient of a chunk is worked out while its scores are at hand; only gradients of the size of the inputs are
kept. The loss is a sum in nats; the caller divides by the valid targets of the whole optimizer step.

What a training run learns, its objective, says how batches are made of the data, and what is to become small:

- `next_token`: every token of a text is predicted from those before it, in packed rows;
- `answers`: the tokens of answers alone, a row a pair of prompt and answer;
- `masked_words`: an encoder fills in tokens that are hidden in packed rows (model/masked.py);
- `classes`: the class of a text, at its last token, of an encoder over all (model/classes.py);
- `preferences`: of two answers the one that was chosen is to become likelier than the other (model/preferences.py).

But for preferences the loss is the nats of the targets that a batch names. Another objective is another entry of
`LEARNING`.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batches import IGNORED, PADDING, Batch, Batches, ExampleBatches, ExampleSet
from model.classes import class_nats
from model.job import Objective, TrainingJob
from model.masked import MaskedBatches
from model.packed import batches_of_job, learned_of_job
from model.preferences import Preference, PreferenceBatches, PreferenceSet, needed, token_weights
from model.transformer import Transformer
from storage.errors import ConfigError
from storage.tokens import read_token_meta

CHUNK_TOKENS = 256  # 4 MB of float32 scores at 4,096 words
CHUNK_TOKENS_CUDA = 4096


class SummedCrossEntropy(torch.autograd.Function):
    """Sum over rows of -log softmax(hidden @ head.T)[target]."""

    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        compiled: bool = False,
        weights: Tensor | None = None,
    ) -> Tensor:
        """hidden (N, D), head (V, D) float32, targets (N,) all valid; returns a float32 scalar.

        `weights` (N,): how much each row counts in the gradient; the sum is always that of all alike.
        """
        differentiate = compiled_cross_entropy() if compiled and hidden.is_cuda else cross_entropy
        weight = head.to(hidden.dtype)
        chunk = CHUNK_TOKENS_CUDA if hidden.is_cuda else CHUNK_TOKENS * 4 // hidden.element_size()
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head) if context.needs_input_grad[1] else None  # None: it is frozen
        total = torch.zeros((), device=hidden.device)
        for start, stop in spans(len(targets), chunk):
            rows = hidden[start:stop]
            nats, gradient = differentiate(rows @ weight.T, targets[start:stop, None])
            total += nats
            if weights is not None:
                gradient *= weights[start:stop, None].to(gradient.dtype)
            torch.mm(gradient, weight, out=hidden_gradient[start:stop])
            add_product(head_gradient, gradient, rows)
        context.save_for_backward(hidden_gradient, head_gradient)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        hidden_gradient, head_gradient = context.saved_tensors
        by_head = None if head_gradient is None else head_gradient * gradients[0]
        return hidden_gradient * gradients[0].to(hidden_gradient.dtype), by_head, None, None, None


def add_product(total: Tensor | None, gradient: Tensor, rows: Tensor) -> None:
    """Add gradient (N, V) transposed times rows (N, D) to the gradient of a head; None: it is frozen."""
    if total is None:
        return
    if gradient.dtype == total.dtype:
        total.addmm_(gradient.T, rows)
    else:
        total += gradient.T @ rows


def cross_entropy(scores: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss in nats of scores (N, V) for the classes chosen (N, 1), and its gradient by the scores.

    In bfloat16 all in one softmax in the dtype of the scores. What is left for the other classes is summed rather than
    taken from 1, so that the gradient of a class that is all but certain is as exact as the others'. In float32, where
    that gains little, by logarithms: processes that share out a batch end where one does, to rounding.
    """
    if scores.dtype == torch.float32:
        logarithms = torch.log_softmax(scores, dim=-1)
        nats = -logarithms.gather(1, chosen).sum()
        gradient = logarithms.exp_()
        gradient.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=gradient.dtype))
        return nats, gradient
    shares = torch.softmax(scores, dim=-1)
    own = shares.gather(1, chosen)[:, 0].float()
    listed, places = shares.view(-1), chosen[:, 0] + torch.arange(0, shares.numel(), shares.shape[1]).to(chosen.device)
    listed.index_fill_(0, places, 0)
    others = shares @ torch.ones_like(shares[0])
    listed.index_copy_(0, places, -others)  # a scatter would copy all shares, twice
    nats = torch.log1p(others.float() / own)
    vanished = own < torch.finfo(own.dtype).tiny
    if bool(vanished.any()):
        nats[vanished] = F.cross_entropy(scores[vanished].float(), chosen[vanished, 0], reduction="none")
    return nats.sum(), shares


def compared_cross_entropy(scores: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """`cross_entropy` as it compiles into two passes over the scores: a comparison fuses, a scatter does not."""
    logarithms = torch.log_softmax(scores.float(), dim=-1)
    hit = torch.arange(scores.shape[1], device=scores.device) == chosen
    return -logarithms.gather(1, chosen).sum(), (logarithms.exp() - hit.float()).to(scores.dtype)


@functools.cache
def compiled_cross_entropy() -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Made when it is first asked for: the compiler takes seconds to import."""
    return torch.compile(compared_cross_entropy, dynamic=False)


def spans(length: int, largest: int) -> Iterator[tuple[int, int]]:
    """Cut range(length) into spans of `largest`, and the rest into powers of two.

    So that products come in a handful of shapes: oneDNN compiles and keeps one for each shape that it meets. On
    examples of all lengths that was 1.5 GB and growing after 150 steps; so it is 0.8 GB and stays.
    """
    start = 0
    while start < length:
        left = length - start
        stop = start + (largest if left >= largest else 1 << (left.bit_length() - 1))
        yield start, stop
        start = stop


def summed_nats(
    hidden: Tensor, head: Tensor, targets: Tensor, compiled: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Sum of the loss in nats over the targets that are not IGNORED; the head is applied only there.

    hidden (B, T, D), head (V, D), targets (B, T) int64. A differentiable scalar, 0 where no target is valid.
    `compiled` runs compiled kernels over the scores, which pays on a GPU. `weights` (B,) are those of a row's targets
    in the gradient, and not in the sum.
    """
    rows, chosen = hidden.flatten(0, 1), targets.flatten()
    valid = chosen != IGNORED
    counts = None if weights is None else weights[:, None].expand_as(targets).flatten()
    if not bool(valid.all()):
        rows, chosen = rows[valid], chosen[valid]
        counts = None if counts is None else counts[valid]
    return SummedCrossEntropy.apply(rows, head, chosen, compiled, counts)


@torch.no_grad()
def nats_of_rows(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """The loss in nats of each row (B,), over its targets that are not IGNORED; without a gradient."""
    valid = targets != IGNORED
    rows, chosen = hidden[valid], targets[valid]
    weight = head.to(hidden.dtype)
    nats = torch.empty(len(chosen), device=hidden.device)
    for start, stop in spans(len(chosen), CHUNK_TOKENS_CUDA if hidden.is_cuda else CHUNK_TOKENS):
        scores = torch.log_softmax((rows[start:stop] @ weight.T).float(), dim=-1)
        nats[start:stop] = -scores.gather(1, chosen[start:stop, None])[:, 0]
    owners = valid.nonzero()[:, 0]
    return torch.zeros(len(targets), device=hidden.device).index_add_(0, owners, nats)


# What a run learns ----------------------------------------------------------------------------------------------

Loss = Callable[[Transformer, Batch], Tensor]  # a sum over the losses of the batch


@dataclass(frozen=True, slots=True)
class Learning:
    """How an objective is carried out, and the kind of data that it takes."""

    data: str
    batches: Callable[[TrainingJob], Batches]
    loss: Callable[[TrainingJob], Loss]


def on_device(model: Transformer, array: npt.NDArray[Any]) -> Tensor:
    """An array of a batch where the model is."""
    return torch.from_numpy(array).to(model.device)


def target_nats(model: Transformer, batch: Batch) -> Tensor:
    """The summed loss in nats over the targets that are scored."""
    return summed_nats(hidden_states(model, batch), model.head, on_device(model, batch.targets), model.compiled)


def hidden_states(model: Transformer, batch: Batch) -> Tensor:
    """The hidden states (B, T, D) over a batch's inputs; those of different segments do not see each other."""
    positions, mask = (None, None) if batch.segments is None else apart(on_device(model, batch.segments))
    states: Tensor = model(on_device(model, batch.inputs), positions=positions, mask=mask, noise=batch.noise)
    return states


def apart(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (rows, time) that begin anew with each segment, and a mask (rows, 1, time, time) of what each input
    sees: itself and what is before it in its segment."""
    time = segments.shape[1]
    places = torch.arange(time, device=segments.device)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(begins, places, 0).cummax(dim=1).values
    positions = torch.where(segments == PADDING, 0, places - starts)
    mask = (segments[:, :, None] == segments[:, None, :]) & (places[:, None] >= places[None, :])
    return positions, mask[:, None]


def preferred_nats(settings: Preference, model: Transformer, batch: Batch) -> Tensor:
    """The summed loss of preferences (model/preferences.py)."""
    targets = on_device(model, batch.targets)
    hidden = hidden_states(model, batch)
    nats = nats_of_rows(hidden, model.head, targets)
    reference = torch.zeros_like(nats) if batch.reference is None else torch.from_numpy(batch.reference).to(nats)
    loss, weights = token_weights(settings, nats, (targets != IGNORED).sum(dim=1), reference)
    surrogate = summed_nats(hidden, model.head, targets, model.compiled, weights)
    return surrogate + (loss - surrogate.detach())  # the value is the loss, and so is the gradient


def _masked(job: TrainingJob) -> Batches:
    shape = job.shape
    if shape.parts.causal:
        raise ConfigError(f"objective masked_words: a model of the family {shape.family} sees no token after another")
    if job.packing or job.apart or job.short_steps:
        raise ConfigError("objective masked_words: its rows are a stream of documents that see each other, all whole")
    beginning = read_token_meta(Path(job.data.folder)).end_of_text
    return MaskedBatches(
        batches_of_job(job), job.masked_share, beginning, shape.mask_token, shape.vocabulary_size, job.seed
    )


def _examples(job: TrainingJob) -> Batches:
    pack_to = job.shape.context_length if job.packing else None
    examples = ExampleSet(Path(job.data.folder))
    return ExampleBatches(examples, job.rows_per_step, job.seed, pack_to, job.shortest_first)


def _preferences(job: TrainingJob) -> Batches:
    return PreferenceBatches(PreferenceSet(Path(job.data.folder)), job.rows_per_step, job.seed)


def _of_targets(job: TrainingJob) -> Loss:
    return target_nats


def _of_classes(job: TrainingJob) -> Loss:
    return target_nats if job.shape.parts.causal else class_nats


def _of_preferences(job: TrainingJob) -> Loss:
    return functools.partial(preferred_nats, needed(job.preference))


LEARNING: dict[Objective, Learning] = {
    "next_token": Learning("packed", learned_of_job, _of_targets),
    "answers": Learning("examples", _examples, _of_targets),
    "preferences": Learning("preferences", _preferences, _of_preferences),
    "masked_words": Learning("masked", _masked, _of_targets),
    "classes": Learning("classes", _examples, _of_classes),
}


def learning_of(job: TrainingJob) -> Learning:
    """How a job's objective is carried out; ConfigError where its data are of another kind."""
    learning = LEARNING[job.objective]
    if job.data.kind != learning.data:
        raise ConfigError(f"objective {job.objective} trains on {learning.data} data, these are {job.data.kind}")
    return learning
