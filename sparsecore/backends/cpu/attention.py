"""Attention on bit planes on the compiled kernels; the meaning is in `reference.attention`."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.reference import attention as reference
from sparsecore.native import core, span

__all__ = ["bitplane_attention"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def bitplane_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, msb_bits: int, lsb_bits: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See `reference.attention.bitplane_attention`; other dtypes than fp32, fp16 and bf16 are computed there."""
    if q.dtype not in _DTYPES:
        return reference.bitplane_attention(q, k, v, mask, scale, msb_bits, lsb_bits, threshold)
    batch, heads, queries, _ = q.shape
    out = q.new_empty(batch, heads, queries, v.shape[3])
    column_sums = q.new_empty((batch, heads, k.shape[2]), dtype=torch.float32)
    needs_lsb = q.new_empty((batch, heads, queries), dtype=torch.bool)
    core.bitplane_attention(
        span(q),
        span(k),
        span(v),
        None if mask is None else span(mask),
        scale,
        msb_bits,
        lsb_bits,
        threshold,
        span(out),
        span(column_sums),
        span(needs_lsb),
        torch.get_num_threads(),
    )
    return out, column_sums, needs_lsb
