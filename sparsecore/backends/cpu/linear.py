"""Sparse linear layers on the compiled kernels; the meaning is in `reference.linear`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore import resident
from sparsecore.backends.reference.linear import masked_matmul, require_dtype
from sparsecore.native import DTYPE_NAMES, core, span

__all__ = ["packed_grad_input", "packed_linear"]


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: resident.Expected
) -> Tensor:
    """See `reference.linear.packed_linear`; x, bias and the result have the weight's dtype."""
    weight = resident.check(packed, expected)
    require_dtype(x, bias, weight.dtype)
    out = x.new_empty((*x.shape[:-1], weight.shape[0]))
    if x.dim() != 2 and not x.is_contiguous():
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    core.packed_linear(
        span(x),
        weight.span,
        None if bias is None else span(bias),
        # The result is new and contiguous: its storage need not be asked for, as `span` does for any tensor.
        (out.data_ptr(), out.nbytes, out.shape, out.stride(), DTYPE_NAMES[weight.dtype]),
        activation,
        torch.get_num_threads(),
    )
    return out


def packed_grad_input(grad: Tensor, packed: Tensor, expected: resident.Expected) -> Tensor:
    """See `reference.linear.packed_grad_input`."""
    stored = resident.to_stored(packed, expected)
    rows, cols = stored.shape
    result = masked_matmul(
        grad.reshape(math.prod(grad.shape[:-1]), rows), stored.unpack().t(), lambda: stored.keep_mask().t()
    )
    return result.reshape(*grad.shape[:-1], cols)
