"""Sparse linear layers on a CUDA device; the meaning is in `reference.linear`.

N:M weights laid out for the kernel run on it, on the current stream and without a synchronisation; every other weight
is unpacked on the device for the call.
"""

from __future__ import annotations

import math

from torch import Tensor

from sparsecore import resident
from sparsecore.backends.cuda import device
from sparsecore.backends.reference import linear as reference
from sparsecore.backends.reference.linear import packed_grad_input, require_dtype
from sparsecore.native import span

__all__ = ["packed_grad_input", "packed_linear"]


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: resident.Expected
) -> Tensor:
    """See `reference.linear.packed_linear`; x, bias and the result have the weight's dtype."""
    reference.same_device(x, packed)
    weight = resident.check(packed, expected)
    if weight.isa != "cuda":
        return reference.packed_linear(x, packed, bias, activation, expected)
    require_dtype(x, bias, weight.dtype)
    rows, cols = weight.shape
    out = x.new_empty((*x.shape[:-1], rows))
    count = math.prod(x.shape[:-1])
    tokens = x.reshape(count, cols)
    with device.current(x):
        device.module().cuda_nm_linear(
            span(tokens),
            weight.span,
            *weight.pattern.sizes,
            None if bias is None else span(bias),
            span(out.view(count, rows)),
            activation,
            device.stream(x),
        )
    return out
