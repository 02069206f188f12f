"""Attention with importance scores on a CUDA device; the meaning is in `reference.scored_attention`.

16-bit tensors whose heads are at most 256 wide run on tensor cores, unless values are dropped (value_keep below 1):
that, fp32 and wider heads take a kernel without them. Heads above 512 and fp64 are computed by the reference. Nothing
is synchronised, and no size depends on values: calls can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.cuda import device
from sparsecore.backends.reference import scored_attention as reference
from sparsecore.native import Span, span, span_of_new

__all__ = ["launch", "scored_attention", "takes"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MOST_WIDTH = 512
_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
) -> _Outputs:
    """See `reference.scored_attention`."""
    if not takes(q):
        return reference.scored_attention(q, k, v, mask, counted, causal, scale, value_keep, token_scores, head_scores)
    if mask is not None:
        mask = mask.expand(*q.shape[:3], k.shape[2])
    return launch(q, k, v, mask, counted, None, causal, scale, value_keep, token_scores, head_scores)


def takes(q: Tensor) -> bool:
    """Whether there is a kernel for queries like these where they lie."""
    return q.dtype in _DTYPES and q.shape[-1] <= _MOST_WIDTH and device.has_kernels(q)


def launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    counted: Tensor | None,
    blocks: tuple[Span, Span, int, int] | None,
    causal: bool,
    scale: float,
    value_keep: float,
    token_scores: bool,
    head_scores: bool,
) -> _Outputs:
    """Queue the kernels; `blocks` are offsets, indices and the sizes of `block_sparse_attention`."""
    batch, heads, queries, _ = q.shape
    keys, rows = k.shape[2], batch * heads * queries
    module = device.module()
    with device.current(q), device.memory_named("scored_attention"):
        out = q.new_empty((batch, heads, queries, v.shape[3]))
        lse = q.new_empty((batch, heads, queries), dtype=torch.float32)
        tokens = q.new_zeros((batch, heads, keys if token_scores else 0), dtype=torch.int64)
        sizes = q.new_zeros((batch, heads if head_scores else 0), dtype=torch.int64)
        # Without a choice of keys or queries the last query sees every key.
        all_used = mask is None and counted is None and blocks is None and value_keep >= 1
        used = None if all_used else q.new_zeros((batch, heads, keys), dtype=torch.uint8)
        scratch = q.new_empty(module.cuda_scored_attention_scratch(rows, keys), dtype=torch.float32)
        odd_count, odd_queries = q.new_zeros(1, dtype=torch.int64), q.new_empty(rows, dtype=torch.int64)
        module.cuda_scored_attention(
            span(q),
            span(k),
            span(v),
            None if mask is None else span(mask),
            None if counted is None else span(counted),
            *((None, None, 0, 0) if blocks is None else blocks),
            causal,
            scale,
            value_keep,
            span_of_new(out),
            span_of_new(lse),
            span_of_new(tokens) if token_scores else None,
            span_of_new(sizes) if head_scores else None,
            None if used is None else span_of_new(used),
            span_of_new(scratch),
            span_of_new(odd_count),
            span_of_new(odd_queries),
            device.stream(q),
        )
        if used is not None:
            return out, lse, tokens, sizes, used.sum(-1, dtype=torch.int32)
        return out, lse, tokens, sizes, q.new_full((batch, heads), keys if queries else 0, dtype=torch.int32)
