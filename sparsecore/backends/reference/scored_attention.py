"""Attention with importance scores in pure torch; it materialises the probabilities.

p = softmax(scale * q k^T) over the keys that a query sees, in fp32 (fp64 inputs: in fp64). A key that it does not see,
whose value it does not multiply or whose probability is 0 in fp32 contributes nothing, whatever key and value hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.reference import scores as units

__all__ = ["scored_attention", "scored_attention_gradients"]


class _Rows(NamedTuple):
    """Probabilities of all queries [B, Hq, Lq, Lk], where they are seen, the V rows that are multiplied, and lse."""

    p: Tensor
    visible: Tensor
    chosen: Tensor
    lse: Tensor


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    counted: Tensor | None,
    causal: bool,
    scale: float,
    value_keep: float,
    token_scores: bool,
    head_scores: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See `sparsecore.ops.scored_attention`."""
    rows = _rows(q, k, mask, causal, scale, value_keep)
    out = _multiply(torch.where(rows.chosen, rows.p, 0), _per_query_head(v, q)).to(q.dtype)
    batch, heads, queries, _ = q.shape
    counts = torch.ones(batch, queries, dtype=torch.bool, device=q.device) if counted is None else counted
    counts = counts[:, None, :, None]
    tokens = q.new_zeros((batch, heads, k.shape[2] if token_scores else 0), dtype=torch.int64)
    if token_scores:
        tokens = (units.in_units(rows.p) * counts).sum(2)
    sizes = q.new_zeros((batch, heads if head_scores else 0), dtype=torch.int64)
    if head_scores:
        sizes = units.head_scores(torch.where(counts, out, 0))
    used = (rows.chosen & counts).any(2).sum(-1, dtype=torch.int32)
    return out, rows.lse.float(), tokens, sizes, used


def scored_attention_gradients(
    grad_out: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
    value_keep: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to q, k, v with the choice of values taken as given; the integer scores have none."""
    rows = _rows(q, k, mask, causal, scale, value_keep)
    key, value = _per_query_head(k, q), _per_query_head(v, q)
    grad = grad_out.to(rows.p.dtype)
    towards = torch.where(rows.chosen, grad @ value.to(grad.dtype).transpose(-1, -2), 0)
    towards = towards - (towards * rows.p).sum(-1, keepdim=True) + grad_lse.to(grad.dtype).unsqueeze(-1)
    scores = torch.where(rows.visible, rows.p * towards, 0) * scale
    grad_q = scores @ key.to(grad.dtype)
    grad_k = scores.transpose(-1, -2) @ q.to(grad.dtype)
    grad_v = torch.where(rows.chosen, rows.p, 0).transpose(-1, -2) @ grad
    return grad_q.to(q.dtype), _per_key_head(grad_k, k), _per_key_head(grad_v, v)


def _rows(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float, value_keep: float) -> _Rows:
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = (q.to(wide) @ _per_query_head(k, q).to(wide).transpose(-1, -2)) * scale
    visible = torch.ones((), dtype=torch.bool, device=q.device) if mask is None else mask
    if causal:
        queries, keys = q.shape[2], k.shape[2]
        visible = visible & torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
    visible = visible.expand(scores.shape)
    if scores.shape[-1] == 0:
        return _Rows(scores, visible, visible, scores.new_full(scores.shape[:-1], -torch.inf))
    scores = scores.masked_fill(~visible, -torch.inf)
    any_key = visible.any(-1)
    # A query without keys gets a row of equal scores, whose probabilities are then zeroed.
    p = torch.softmax(torch.where(any_key.unsqueeze(-1), scores, 0), -1)
    p = torch.where(visible, p, 0)
    lse = torch.where(any_key, torch.logsumexp(scores, -1), -torch.inf)
    chosen = visible
    if value_keep < 1:
        chosen = units.largest(p, visible, units.value_counts(value_keep, visible.sum(-1)))
    return _Rows(p, visible, chosen, lse)


def _multiply(p: Tensor, v: Tensor) -> Tensor:
    """P V, where a value meets only probabilities above zero: 0 * inf does not occur."""
    finite = v.isfinite()
    product = p @ torch.where(finite, v, 0).to(p.dtype)
    odd = torch.cat((v == torch.inf, v == -torch.inf, v.isnan()), -1)
    up, down, nan = ((p > 0).to(p.dtype) @ odd.to(p.dtype) > 0).chunk(3, -1)
    product = torch.where(up, product + torch.inf, product)
    product = torch.where(down, product - torch.inf, product)
    return torch.where(nan, torch.nan, product)


def _per_query_head(x: Tensor, q: Tensor) -> Tensor:
    """Repeat the heads of x [B, Hkv, L, D] for the groups of query heads."""
    group = q.shape[1] // max(x.shape[1], 1)
    return x if group == 1 else x.repeat_interleave(group, 1)


def _per_key_head(grad: Tensor, like: Tensor) -> Tensor:
    """Add up the gradients [B, Hq, L, D] of the query heads of each key head."""
    batch, heads, tokens, width = like.shape
    return grad.reshape(batch, heads, -1, tokens, width).sum(2).to(like.dtype) if heads else like.new_zeros(like.shape)
