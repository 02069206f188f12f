"""Sparse linear layers on a CUDA device; the meaning is in `reference.linear`.

Weights laid out for the kernels are read by them or expanded, as `routes` says, on the current stream and without a
synchronisation; every other weight is unpacked and multiplied by torch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsecore import resident
from sparsecore.backends.cuda import device, expand
from sparsecore.backends.cuda.expand import packed_grad_input, packed_to_dense
from sparsecore.backends.cuda.routes import GATHERED, route
from sparsecore.backends.reference import linear as reference
from sparsecore.backends.reference.linear import require_dtype
from sparsecore.devices import require_one_device
from sparsecore.dtypes import is_quantised
from sparsecore.native import DTYPE_NAMES, span, span_of_new

__all__ = ["packed_grad_input", "packed_linear", "packed_to_dense"]

_SCRATCH_BYTES = 32 << 20  # that one call may take for quantised activations


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: resident.Expected
) -> Tensor:
    """See `reference.linear.packed_linear`; x, bias and the result have the weight's dtype."""
    require_one_device("the input", x, weight=packed, bias=bias)
    weight = resident.check(packed, expected)
    if weight.isa != "cuda":
        return reference.packed_linear(x, packed, bias, activation, expected)
    require_dtype(x, bias, weight.dtype)
    rows, cols = weight.shape
    count = math.prod(x.shape[:-1])
    way = route(weight.pattern, weight.dtype, count, weight.layout, device.capability(x))
    with device.current(x), device.memory_named("packed_linear"):
        if way == "expand":
            return expand.linear(x, packed, bias, activation, weight)
        out = x.new_empty((*x.shape[:-1], rows))
        _launch(weight, x.reshape(count, cols), bias, out.view(count, rows), activation)
    return out


def _launch(weight: resident.Resident, x: Tensor, bias: Tensor | None, out: Tensor, activation: str) -> None:
    end = (None if bias is None else span(bias), span_of_new(out), activation, device.stream(x))
    if weight.pattern.kind == "block":
        device.module().cuda_block_linear(span(x), weight.span, *weight.pattern.sizes, weight.kept, *end)
    elif weight.pattern.kind == "bitmask":
        device.module().cuda_bitmask_linear(span(x), weight.span, weight.kept, *end)
    elif is_quantised(weight.dtype):
        _launch_quantised(weight, x, bias, out, activation)
    else:
        workspace = _workspace(x, weight)
        partial = None if workspace is None else span(workspace)
        device.module().cuda_nm_linear(span(x), weight.span, *weight.pattern.sizes, *end, partial, weight.layout)


def _launch_quantised(weight: resident.Resident, x: Tensor, bias: Tensor | None, out: Tensor, activation: str) -> None:
    stride = -(-weight.shape[1] // 16) * 16  # bytes of a quantised token
    step = max(128, _SCRATCH_BYTES // max(stride, 1))
    q = x.new_empty((min(step, len(x)), stride), dtype=weight.dtype)
    scales = x.new_empty(len(q), dtype=torch.float32)
    workspace = _workspace(x, weight)
    for start in range(0, len(x), step):
        rows = x[start : start + step]
        device.module().cuda_int8_linear(
            span(rows),
            weight.span,
            *weight.pattern.sizes,
            None if bias is None else span(bias),
            span(out[start : start + step]),
            activation,
            device.stream(x),
            span(q[: len(rows)]),
            span(scales[: len(rows)]),
            None if workspace is None else span(workspace),
        )


def _workspace(x: Tensor, weight: resident.Resident) -> Tensor | None:
    """Memory of 32 bits for the sums of blocks that divide columns, where few rows give too few blocks to read fast.

    For a V:N:M weight and many tokens it is for activations [in, tokens at a time], transposed, where a kernel takes
    them so.
    """
    tokens, (rows, cols) = x.shape[0], weight.shape
    if weight.layout in GATHERED:
        columns = device.module().cuda_nm_transposed_tokens(tokens, rows, cols, weight.layout)
        if columns > 0:
            return x.new_empty((cols, columns))
    sizes = (tokens, rows, cols, *weight.pattern.sizes)
    splits = device.module().cuda_nm_splits(*sizes, DTYPE_NAMES[weight.dtype], weight.layout)
    return None if splits == 1 else x.new_empty((splits, tokens, rows), dtype=torch.float32)
