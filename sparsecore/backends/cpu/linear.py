"""Sparse linear layers on the compiled kernels; the meaning is in `reference.linear`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore import resident
from sparsecore.backends.reference.linear import grad_input, require_dtype
from sparsecore.native import core, span, span_of_new

__all__ = ["packed_grad_input", "packed_linear"]


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: resident.Expected
) -> Tensor:
    """See `reference.linear.packed_linear`; the result has the dtype of x."""
    weight = resident.check(packed, expected)
    require_dtype(x, bias, weight.dtype)
    out = x.new_empty((*x.shape[:-1], weight.shape[0]))
    if x.dim() != 2 and not x.is_contiguous():
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    core.packed_linear(
        span(x),
        weight.span,
        None if bias is None else span(bias),
        span_of_new(out),
        activation,
        torch.get_num_threads(),
    )
    return out


def packed_grad_input(grad: Tensor, packed: Tensor, expected: resident.Expected) -> Tensor:
    """See `reference.linear.packed_grad_input`."""
    return grad_input(grad, resident.to_stored(packed, expected))
