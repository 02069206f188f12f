"""Top-k on a CUDA device, on the current stream and without a synchronisation; the meaning is in `reference.topk`.

Dtypes without a kernel, and builds without kernels, are computed by the reference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore.backends.cuda import device
from sparsecore.backends.reference import rows as reference_rows
from sparsecore.backends.reference import topk as reference
from sparsecore.devices import require_one_device
from sparsecore.native import DTYPE_NAMES, span, span_of_new

__all__ = ["ragged_topk", "topk_select", "topk_threshold"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def topk_select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `reference.topk_select`."""
    if x.dtype not in _DTYPES or not device.has_kernels(x):
        return reference.topk_select(x, k)
    shape = (*x.shape[:-1], k)
    with device.current(x), device.memory_named("topk_select"):
        values, indices = x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)
        if values.numel() == 0:
            return values, indices
        rows, found = _rows(x), (span_of_new(values.view(-1, k)), span_of_new(indices.view(-1, k)))
        workspace = _workspace(rows, k)
        device.module().cuda_topk_select(span(rows), k, *found, span_of_new(workspace), device.stream(x))
    return values, indices


def topk_threshold(x: Tensor, k: int) -> Tensor:
    """See `reference.topk_threshold`."""
    if x.dtype not in _DTYPES or not device.has_kernels(x):
        return reference.topk_threshold(x, k)
    with device.current(x), device.memory_named("topk_threshold"):
        rows, out = _rows(x), x.new_empty(x.shape[:-1])
        workspace = _workspace(rows, k)
        device.module().cuda_topk_threshold(
            span(rows), k, span_of_new(out.view(-1)), span_of_new(workspace), device.stream(x)
        )
    return out


def ragged_topk(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    """See `sparsecore.ops.ragged_topk`; values of counts and keep outside of their ranges are clamped."""
    require_one_device("scores", scores, counts=counts, keep=keep)
    if not device.has_kernels(scores):
        return reference_rows.ragged_topk(scores, counts, keep, width)
    with device.current(scores), device.memory_named("ragged_topk"):
        rows, index = _rows(scores), scores.new_empty((scores.shape[0], width), dtype=torch.int64)
        workspace = _workspace(rows, width)
        device.module().cuda_ragged_topk(
            span(rows), span(counts), span(keep), span_of_new(index), span_of_new(workspace), device.stream(scores)
        )
    return index


def _rows(x: Tensor) -> Tensor:
    """x [..., n] as a matrix whose rows have no gaps inside."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] < 2 else rows.contiguous()


def _workspace(rows: Tensor, k: int) -> Tensor:
    size = device.module().cuda_topk_workspace(*rows.shape, k, DTYPE_NAMES[rows.dtype])
    return rows.new_empty(size, dtype=torch.uint8)
