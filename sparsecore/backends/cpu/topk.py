"""Top-k on the compiled kernels; the meaning, and the dtypes without a kernel, are in `reference.topk`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore.backends.reference import topk as reference
from sparsecore.native import core, span

__all__ = ["topk_select", "topk_threshold"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def topk_select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `reference.topk_select`."""
    if x.dtype not in _DTYPES:
        return reference.topk_select(x, k)
    count = math.prod(x.shape[:-1])
    rows = x.reshape(count, x.shape[-1])
    values, indices = x.new_empty(count, k), x.new_empty((count, k), dtype=torch.int64)
    core.topk_select(span(rows), k, span(values), span(indices), torch.get_num_threads())
    return values.view(*x.shape[:-1], k), indices.view(*x.shape[:-1], k)


def topk_threshold(x: Tensor, k: int) -> Tensor:
    """See `reference.topk_threshold`."""
    if x.dtype not in _DTYPES:
        return reference.topk_threshold(x, k)
    count = math.prod(x.shape[:-1])
    rows, out = x.reshape(count, x.shape[-1]), x.new_empty(count)
    core.topk_threshold(span(rows), k, span(out), torch.get_num_threads())
    return out.view(x.shape[:-1])
