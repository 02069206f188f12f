"""Top-k on the compiled kernels; the meaning, and the dtypes without a kernel, are in `reference.topk`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore.backends.reference import topk as reference
from sparsecore.native import core, span, span_of_new

__all__ = ["topk_select", "topk_threshold"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def topk_select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `reference.topk_select`."""
    if x.dtype not in _DTYPES:
        return reference.topk_select(x, k)
    shape = (*x.shape[:-1], k)
    rows, values, indices = _rows(x), x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)
    core.topk_select(span(rows), k, span_of_new(values), span_of_new(indices), torch.get_num_threads())
    return values, indices


def topk_threshold(x: Tensor, k: int) -> Tensor:
    """See `reference.topk_threshold`."""
    if x.dtype not in _DTYPES:
        return reference.topk_threshold(x, k)
    rows, out = _rows(x), x.new_empty(x.shape[:-1])
    core.topk_threshold(span(rows), k, span(out.view(-1)), torch.get_num_threads())
    return out


def _rows(x: Tensor) -> Tensor:
    """x [..., n] as the compiled module takes it: a matrix of any strides, or any rank without gaps."""
    if x.dim() == 2 or x.is_contiguous():
        return x
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
