"""Attention with importance scores on the compiled kernels; the meaning is in `reference.scored_attention`."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.reference import scored_attention as reference
from sparsecore.native import core, span, span_of_new

__all__ = ["scored_attention"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
    """See `reference.scored_attention`; other dtypes than fp32, fp16 and bf16 are computed there."""
    if q.dtype not in _DTYPES:
        return reference.scored_attention(q, k, v, mask, counted, causal, scale, value_keep, token_scores, head_scores)
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    out = q.new_empty((batch, heads, queries, v.shape[3]))
    lse = q.new_empty((batch, heads, queries), dtype=torch.float32)
    tokens = q.new_empty((batch, heads, keys if token_scores else 0), dtype=torch.int64)
    sizes = q.new_empty((batch, heads if head_scores else 0), dtype=torch.int64)
    used = q.new_empty((batch, heads), dtype=torch.int32)
    q, k, v = _close_columns(q), _close_columns(k), _close_columns(v)
    if mask is not None:
        mask = _close_columns(mask).expand(batch, heads, queries, keys)
    core.scored_attention(
        span(q),
        span(k),
        span(v),
        None if mask is None else span(mask),
        None if counted is None else span(counted),
        causal,
        scale,
        value_keep,
        span_of_new(out),
        span_of_new(lse),
        span_of_new(tokens) if token_scores else None,
        span_of_new(sizes) if head_scores else None,
        span_of_new(used),
        torch.get_num_threads(),
    )
    return out, lse, tokens, sizes, used


def _close_columns(x: Tensor) -> Tensor:
    """x itself, or a copy where the elements of its rows are no neighbours."""
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous()
