"""Soft targets: a student learns from the scores of a teacher beside the text (Hinton et al. 2015, arXiv 1503.02531).

Of each target that is scored the loss is

    (1 - weight) * cross-entropy + weight * T^2 * KL(teacher at T || student at T)

where T is the temperature that both divide their scores by; T^2 keeps the gradients of the second term as large as they
are at T = 1. The teacher is another model of the same vocabulary, or the student's own weights at an earlier step (as
in born-again networks, Furlanello et al. 2018, arXiv 1805.04770, but within one training): until then the text alone is
learned. What a run reports as its loss stays the cross-entropy of the text, so that it compares with other runs.

Scores of both are held for a chunk of targets at a time, as in model/loss.py. Cost: a forward pass of the teacher, and
its head over the targets.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.batches import IGNORED, Batch
from model.huggingface import read_shape
from model.job import SoftTargets, TrainingJob
from model.lora import trained
from model.loss import CHUNK_TOKENS, CHUNK_TOKENS_CUDA, add_product, hidden_states, on_device, spans
from model.shape import check_teacher
from model.transformer import Transformer, load_model
from model.weights import check_tensors
from storage.errors import DataError


class SoftCrossEntropy(torch.autograd.Function):
    """The summed loss over rows, and the cross-entropy in it, which has no gradient."""

    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        their_hidden: Tensor,
        their_head: Tensor,
        settings: SoftTargets,
    ) -> tuple[Tensor, Tensor]:
        """hidden (N, D), head (V, D) float32, targets (N,) all valid; the teacher's hidden (N, E) and head (V, E).

        DataError where the teacher's scores are not finite.
        """
        weight, their_weight = head.to(hidden.dtype), their_head.to(their_hidden.dtype)
        chunk = CHUNK_TOKENS_CUDA if hidden.is_cuda else CHUNK_TOKENS
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head) if context.needs_input_grad[1] else None  # None: it is frozen
        loss, nats, checked = (torch.zeros((), device=hidden.device) for _ in range(3))
        for start, stop in spans(len(targets), chunk):
            rows = hidden[start:stop]
            theirs = (their_hidden[start:stop] @ their_weight.T).float()
            checked += theirs.sum()
            lost, text, gradient = soft_cross_entropy(rows @ weight.T, targets[start:stop, None], theirs, settings)
            loss += lost
            nats += text
            torch.mm(gradient, weight, out=hidden_gradient[start:stop])
            add_product(head_gradient, gradient, rows)
        if not bool(torch.isfinite(checked)):
            raise DataError(
                "the teacher's scores are not finite (NaN or infinite): its weights do not compute in this dtype; set "
                "dtype to float32, or take another teacher"
            )
        context.save_for_backward(hidden_gradient, head_gradient)
        context.mark_non_differentiable(nats)
        return loss, nats

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None]:
        hidden_gradient, head_gradient = context.saved_tensors
        by_head = None if head_gradient is None else head_gradient * gradients[0]
        return hidden_gradient * gradients[0].to(hidden_gradient.dtype), by_head, None, None, None, None


def soft_cross_entropy(
    scores: Tensor, chosen: Tensor, theirs: Tensor, settings: SoftTargets
) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss of scores (N, V) for the classes chosen (N, 1) and the teacher's scores (N, V), the
    cross-entropy in it, and the loss's gradient by the scores."""
    share, temperature = settings.weight, settings.temperature
    logarithms = torch.log_softmax(scores.float(), dim=-1)
    nats = -logarithms.gather(1, chosen).sum()
    soft = logarithms if temperature == 1 else torch.log_softmax(scores.float() / temperature, dim=-1)
    wanted = torch.log_softmax(theirs / temperature, dim=-1)
    divergence = F.kl_div(soft, wanted, reduction="sum", log_target=True)
    gradient = (soft.exp() - wanted.exp_()).mul_(share * temperature)  # of T^2 KL: T (student - teacher)
    hard = logarithms.exp_()
    hard.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=hard.dtype))
    gradient.add_(hard, alpha=1 - share)
    return (1 - share) * nats + share * temperature**2 * divergence, nats, gradient.to(scores.dtype)


def distilled_nats(settings: SoftTargets, teacher: Transformer, model: Transformer, batch: Batch) -> Tensor:
    """A sum over the targets that are scored: its value is the loss of the text in nats, its gradient that of both."""
    targets = on_device(model, batch.targets)
    valid = targets != IGNORED
    hidden = hidden_states(model, batch)
    with torch.no_grad():
        theirs = hidden_states(teacher, batch)
    loss, nats = SoftCrossEntropy.apply(
        hidden[valid], model.head, targets[valid], theirs[valid], teacher.head[: len(model.head)], settings
    )
    return loss + (nats - loss.detach())


def load_teacher(job: TrainingJob, device: torch.device, dtype: torch.dtype) -> Transformer:
    """The teacher of a job, frozen; ConfigError where it does not fit the student."""
    check_teacher(read_shape(Path(job.teacher)), job.shape)
    return load_model(Path(job.teacher), device, dtype)


def snapshot(model: Transformer) -> Transformer:
    """The model as it is now, frozen."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def weights_of_snapshot(teacher: Transformer, model: Transformer) -> dict[str, Tensor]:
    """What of a snapshot can differ from the model that it was taken of."""
    parameters = dict(teacher.named_parameters())
    return {name: parameters[name] for name in trained(model)}


def restored_snapshot(model: Transformer, tensors: Mapping[str, Tensor]) -> Transformer:
    """A snapshot of the model from `weights_of_snapshot`."""
    teacher = snapshot(model)
    parts = weights_of_snapshot(teacher, model)
    check_tensors("the checkpoint's earlier self", parts, tensors)
    for name, part in parts.items():
        part.copy_(tensors[name])
    return teacher
