"""Decode attention and the store of keys and values on the compiled kernels; meaning in `ops.decode_attention`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsecore.backends.reference import decode_attention as reference
from sparsecore.errors import ShapeError
from sparsecore.native import Span, core, span, span_of_new

__all__ = ["decode_attention", "decode_spans", "kv_append_", "kv_compact_"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def decode_attention(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *arguments: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See `ops.decode_attention`; other dtypes than fp32, fp16 and bf16 are computed in pure torch."""
    if q.dtype not in _DTYPES or not all(_has_kernel(part) for part in (*keys, *values)):
        return reference.decode_attention(q, keys, values, *arguments)
    spans = [span(part) for part in keys], [span(part) for part in values]
    return decode_spans(q, *spans, values[0].shape[3], *arguments)


def decode_spans(
    q: Tensor,
    keys: list[Span],
    values: list[Span],
    value_width: int,
    starts: Tensor,
    lengths: Tensor,
    width: int,
    rows: Tensor | None,
    row_counts: Tensor | None,
    heads: Tensor | None,
    msb_bits: int,
    scale: float,
    threshold: float,
    value_keep: float,
    value_mass: float,
    group_values: bool,
    token_scores: bool,
    head_scores: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`decode_attention` of a store whose spans are known: what its rows and sizes allow is checked in C++."""
    if q.dim() != 4:
        raise ShapeError(f"q is {list(q.shape)}", where="q", expected="[B, Hq, 1, D]")
    batch, count = q.shape[:2]
    seen = (width if rows is None else rows.shape[-1]) if token_scores else 0
    out = q.new_empty(batch, count, 1, value_width)
    lse = q.new_empty((batch, count, 1), dtype=torch.float32)
    of_tokens = q.new_empty((batch, count, seen), dtype=torch.int64)
    of_heads = q.new_empty((batch, count if head_scores else 0), dtype=torch.int64)
    low = q.new_empty((batch, count), dtype=torch.bool)
    values_used = q.new_empty((batch, count), dtype=torch.int32)
    core.decode_attention(
        span(q),
        keys,
        values,
        span(starts),
        span(lengths),
        width,
        None if rows is None else span(rows),
        None if row_counts is None else span(row_counts),
        None if heads is None else span(heads),
        msb_bits,
        scale,
        threshold,
        value_keep,
        value_mass,
        group_values,
        span_of_new(out),
        span_of_new(lse),
        span_of_new(of_tokens) if token_scores else None,
        span_of_new(of_heads) if head_scores else None,
        span_of_new(low),
        span_of_new(values_used),
        torch.get_num_threads(),
    )
    return out, lse, of_tokens, of_heads, low, values_used


def kv_append_(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    msb_bits: int,
    value_bits: int,
) -> None:
    """See `ops.decode_attention.kv_append_`."""
    if not all(part.dtype in _DTYPES for part in (new_keys, new_values)) or not all(
        _has_kernel(part) for part in (*keys, *values)
    ):
        return reference.kv_append_(keys, values, new_keys, new_values, positions, msb_bits, value_bits)
    core.kv_append(
        [span(part) for part in keys],
        [span(part) for part in values],
        span(new_keys),
        span(new_values),
        span(positions),
        msb_bits,
        value_bits,
        torch.get_num_threads(),
    )
    return None


def kv_compact_(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    """See `ops.decode_attention.kv_compact_`."""
    if not all(_has_kernel(part) for part in stored):
        return reference.kv_compact_(stored, index, counts)
    core.kv_compact([span(part) for part in stored], span(index), span(counts), torch.get_num_threads())
    return None


def _has_kernel(part: Tensor) -> bool:
    return part.dtype != torch.float64 and (part.dim() < 4 or part.stride(3) == 1 or part.shape[3] == 1)
