"""Attention over a whole text at once: torch's own, or the plain products where those are faster.

torch's operator for CPUs never holds the scores, and its backward pass makes little use of a CPU's fast bfloat16: at
256 tokens both passes take 1.7 times the CPU time of plain products, at 512 1.2 times. In float32 it is the faster one,
and everywhere where no gradient is asked for.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.dropout import Kept, drop

LONGEST_PLAIN = 512  # tokens; beyond, the scores that are kept outweigh all other activations


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool, kept: Kept | None = None
) -> Tensor:
    """Mixed values (B, H, T, E) for queries (B, H, T, E), keys and values (B, K, S, E): each head of keys and values
    serves H / K heads of queries. `mask` (B, 1, T, S) says what each may see, else `causal` that none sees later ones;
    `kept` (B, H, T, S), in training with dropout, which shares count.
    """
    if kept is not None:
        return _attend_to_kept(queries, keys, values, mask, causal, kept)
    if mask is None and _plain_is_faster(queries, keys):
        mixed: Tensor = PlainAttention.apply(queries, keys, values, causal)
        return mixed
    grouped = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=grouped
    )


def _plain_is_faster(queries: Tensor, keys: Tensor) -> bool:
    return (
        queries.is_cpu
        and queries.dtype == torch.bfloat16
        and queries.requires_grad
        and queries.shape[2] == keys.shape[2] <= LONGEST_PLAIN
    )


def _attend_to_kept(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool, kept: Kept
) -> Tensor:
    """By plain products: torch's operator draws what it leaves out itself, on a CPU from the stream of all threads."""
    grouped = queries.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(grouped, dim=1) for part in (keys, values))
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5
    if mask is None and causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return drop(shares, kept) @ values


class PlainAttention(torch.autograd.Function):
    """softmax(queries @ keys.T / sqrt(E)) @ values by batched products, all heads of all rows at once."""

    @staticmethod
    def forward(context: Any, queries: Tensor, keys: Tensor, values: Tensor, causal: bool) -> Tensor:
        rows, heads, time, size = queries.shape
        served = keys.shape[1]
        q = queries.reshape(rows * served, heads // served * time, size)  # the queries of a head of keys, one list
        k, v = keys.reshape(rows * served, time, size), values.reshape(rows * served, time, size)
        hidden = torch.zeros(time, time, dtype=q.dtype)
        if causal:
            hidden.fill_(-torch.inf).triu_(1)
        scores = torch.baddbmm(hidden.repeat(heads // served, 1), q, k.mT, alpha=size**-0.5)
        shares = torch.softmax(scores, dim=-1)
        context.save_for_backward(q, k, v, shares)
        return (shares @ v).view(queries.shape)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, shares = context.saved_tensors
        (mixed,) = gradients
        gradient = mixed.reshape(q.shape)
        by_scores = torch._softmax_backward_data(gradient @ v.mT, shares, -1, shares.dtype).mul_(q.shape[-1] ** -0.5)
        rows, _, time, size = mixed.shape
        grouped = (rows, -1, time, size)
        by_queries, by_keys, by_values = by_scores @ k, by_scores.mT @ q, shares.mT @ gradient
        return by_queries.view(mixed.shape), by_keys.view(grouped), by_values.view(grouped), None
