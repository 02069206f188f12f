"""Decode attention and the store of keys and values on a CUDA device; meaning in `ops.decode_attention`.

Calls queue kernels on the current stream and wait for nothing: what they allocate follows from shapes alone, and
indices on the device are clamped by the kernels, so that a call may be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.backends.cuda import device
from sparsecore.backends.reference import decode_attention as reference
from sparsecore.backends.reference import paged
from sparsecore.devices import require_one_device
from sparsecore.native import span, span_of_new

__all__ = ["decode_attention", "kv_append_", "kv_compact_"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_WIDTH, _GROUP = 256, 128
"""Most dimensions of a key or value, and query heads of a key head: csrc/cuda/attention/decode/args.h."""

_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def decode_attention(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
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
    pages: Tensor | None = None,
) -> _Outputs:
    """See `ops.decode_attention`; pure torch computes what has no kernel: other dtypes, more than 256 dimensions."""
    seen = (starts, lengths, width, rows, row_counts, heads)
    rule = (msb_bits, scale, threshold, value_keep, value_mass, group_values)
    require_one_device(
        "q", q, keys=keys, values=values, starts=starts, lengths=lengths, rows=rows, row_counts=row_counts, heads=heads,
        pages=pages,
    )  # fmt: skip
    if not _decodes(q, keys, values):
        if pages is not None:
            pages = paged.in_use(pages, starts, lengths, keys[0])
            keys, values = ([paged.gather(part, pages) for part in parts] for parts in (keys, values))
        return reference.decode_attention(q, keys, values, *seen, *rule, token_scores, head_scores)
    batch, count = q.shape[:2]
    most_rows, value_width = (width if rows is None else rows.shape[-1]), values[0].shape[-1]
    with device.current(q), device.memory_named("decode_attention"):
        out = q.new_empty((batch, count, 1, value_width))
        lse = q.new_empty((batch, count, 1), dtype=torch.float32)
        of_tokens = q.new_empty((batch, count, most_rows if token_scores else 0), dtype=torch.int64)
        of_heads = q.new_empty((batch, count if head_scores else 0), dtype=torch.int64)
        low = q.new_empty((batch, count), dtype=torch.bool)
        values_used = q.new_empty((batch, count), dtype=torch.int32)
        module = device.module()
        size = module.cuda_decode_workspace(
            batch, count, keys[0].shape[1], value_width, most_rows, value_keep < 1, group_values
        )
        workspace = q.new_empty(size, dtype=torch.uint8)
        module.cuda_decode_attention(
            span(q),
            [span(part) for part in keys],
            [span(part) for part in values],
            span(starts),
            span(lengths),
            width,
            *(None if part is None else span(part) for part in (rows, row_counts, heads, pages)),
            *rule,
            span_of_new(out),
            span_of_new(lse),
            span_of_new(of_tokens) if token_scores else None,
            span_of_new(of_heads) if head_scores else None,
            span_of_new(low),
            span_of_new(values_used),
            span_of_new(workspace),
            device.stream(q),
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
    pages: Tensor | None = None,
) -> None:
    """See `ops.decode_attention.kv_append_`."""
    new = (new_keys, new_values)
    require_one_device("keys", keys[0], keys=keys, values=values, new=new, positions=positions, pages=pages)
    if not all(part.dtype in _DTYPES for part in new) or not _stores((*keys, *values)):
        if pages is None:
            return reference.kv_append_(keys, values, *new, positions, msb_bits, value_bits)
        return paged.append_(keys, values, *new, positions, msb_bits, value_bits, pages)
    with device.current(new_keys):
        device.module().cuda_kv_append(
            [span(part) for part in keys],
            [span(part) for part in values],
            span(new_keys),
            span(new_values),
            span(positions),
            None if pages is None else span(pages),
            msb_bits,
            value_bits,
            device.stream(new_keys),
        )
    return None


def kv_compact_(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    """See `ops.decode_attention.kv_compact_`."""
    require_one_device("the store", stored[0], stored=stored, index=index, counts=counts)
    if not _stores(stored):
        return reference.kv_compact_(stored, index, counts)
    with device.current(index):
        device.module().cuda_kv_compact(
            [span(part) for part in stored], span(index), span(counts), device.stream(index)
        )
    return None


def _decodes(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> bool:
    wide = max(q.shape[-1], values[0].shape[-1]) > _WIDTH or q.shape[1] > _GROUP * keys[0].shape[1]
    return q.dtype in _DTYPES and not wide and _stores((*keys, *values))


def _stores(parts: Sequence[Tensor]) -> bool:
    return device.has_kernels(parts[0]) and all(
        part.dtype != torch.float64 and (part.dim() < 4 or part.stride(3) == 1 or part.shape[3] == 1) for part in parts
    )
