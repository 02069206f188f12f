"""Resident weights made dense on a CUDA device, in stream order, and products with them; see `reference.linear`.

torch multiplies the dense weight, pruned positions as zeros. Such a product is NaN where the other factor is infinite
or NaN; those results alone are then computed again over the kept positions: no call looks at a value on the host.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from sparsecore import resident
from sparsecore.backends.cuda import device
from sparsecore.backends.reference import linear as reference
from sparsecore.backends.reference import quantised
from sparsecore.devices import require_one_device
from sparsecore.dtypes import dense_dtype, is_quantised
from sparsecore.native import DTYPE_NAMES, span

__all__ = ["linear", "packed_grad_input", "packed_to_dense", "to_dense"]

_SCRATCH_BYTES = 32 << 20  # that one call may take beside an expanded int8 weight
_INT8_TOKENS = 32  # at least; torch's product of bytes takes more than 16


def to_dense(packed: Tensor, expected: resident.Expected, marks_pruned: bool = False) -> Tensor:
    """Dense weight [out_features, in_features] of a resident one, on its device.

    marks_pruned: zeros at pruned positions are negative and at kept ones positive. Raises ResidentError if the weight
    is not the `expected` one.
    """
    weight = resident.check(packed, expected)
    if weight.isa != "cuda":
        return reference.packed_to_dense(packed, expected)
    with device.memory_named("packed_to_dense"):
        return _dense(packed, weight, dense_dtype(weight.dtype), marks_pruned)


def packed_to_dense(packed: Tensor, expected: resident.Expected) -> Tensor:
    """See `reference.linear.packed_to_dense`."""
    return to_dense(packed, expected)


def _linear_int8(x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, weight: resident.Resident) -> Tensor:
    """`reference.quantised.linear` with sums by torch's product of bytes, which are exact as well."""
    rows, cols = weight.shape
    scales = packed[packed.numel() - -(-rows // 16) * 64 :][: rows * 4].view(torch.float32)  # the last section
    dense = functional.pad(_expand(packed, weight, marks_pruned=False), (0, _missing(cols), 0, _missing(rows))).t()
    tokens = x.reshape(math.prod(x.shape[:-1]), cols)
    out = x.new_empty(len(tokens), rows)
    step = max(_INT8_TOKENS, _SCRATCH_BYTES // (16 * (cols + rows) + 1))
    for start in range(0, len(tokens), step):
        part, result = tokens[start : start + step], out[start : start + step]
        q, x_scales = quantised.quantise_tokens(part, torch.int8)
        q = functional.pad(q, (0, _missing(cols), 0, max(0, _INT8_TOKENS - len(q))))
        total = torch._int_mm(q, dense)[: len(part), :rows].float() * (x_scales[:, None] * scales)
        result.copy_(reference.ACTIVATIONS[activation](total if bias is None else total + bias.float()))
    return out.reshape(*x.shape[:-1], rows)


def _missing(size: int) -> int:
    """What torch's product of bytes wants besides: a multiple of 8, and not 0."""
    return -size % 8 if size else 8


def linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, weight: resident.Resident) -> Tensor:
    """`reference.linear.packed_linear` for a weight in a CUDA layout; the sum is rounded before the activation, too.

    fp8 values are multiplied by their scales first, and x is not quantised. int8 ones have exact sums.
    """
    if weight.dtype is torch.int8:
        return _linear_int8(x, packed, bias, activation, weight)
    dense = _dense(packed, weight, x.dtype, marks_pruned=True)
    bias = None if bias is None else bias.to(x.dtype)
    rows = x.reshape(math.prod(x.shape[:-1]), weight.shape[1])
    out = rows @ dense.t() if bias is None else torch.addmm(bias, rows, dense.t())
    _repair(out, rows, dense, bias)
    return reference.ACTIVATIONS[activation](out).reshape(*x.shape[:-1], weight.shape[0])


def packed_grad_input(grad: Tensor, packed: Tensor, expected: resident.Expected) -> Tensor:
    """See `reference.linear.packed_grad_input`."""
    require_one_device("the gradient", grad, weight=packed)
    weight = resident.check(packed, expected)
    if weight.isa != "cuda":
        return reference.packed_grad_input(grad, packed, expected)
    with device.memory_named("packed_grad_input"):
        dense = _dense(packed, weight, dense_dtype(weight.dtype), marks_pruned=True)
        rows = grad.reshape(math.prod(grad.shape[:-1]), weight.shape[0]).to(dense.dtype)
        out = rows @ dense
        _repair(out, rows, dense.t(), None)
        return out.to(grad.dtype).reshape(*grad.shape[:-1], weight.shape[1])


def _dense(packed: Tensor, weight: resident.Resident, dtype: torch.dtype, marks_pruned: bool) -> Tensor:
    """The dense weight as `dtype`, which is its own or, of quantised values times their scales, any float type."""
    if not is_quantised(weight.dtype):
        return _expand(packed, weight, marks_pruned)
    values = _expand(packed, weight, marks_pruned=True)
    rows = weight.shape[0]
    scales = packed[packed.numel() - -(-rows // 16) * 64 :][: rows * 4].view(torch.float32)  # the last section
    # The addition takes the sign from zeros, and from what `dtype` rounds to zero.
    dense = (values.float() * scales[:, None]).to(dtype) + 0.0
    return dense.masked_fill_(values.view(torch.int8) == -128, -0.0 if marks_pruned else 0.0)


def _expand(packed: Tensor, weight: resident.Resident, marks_pruned: bool) -> Tensor:
    """The dense weight in the type of its values; marks of int8 are -128, which no value is."""
    with device.current(packed):
        out = packed.new_empty(weight.shape, dtype=weight.dtype)
        device.module().cuda_expand(
            weight.span,
            weight.pattern.kind,
            DTYPE_NAMES[weight.dtype],
            *weight.shape,
            *weight.pattern.sizes,
            weight.kept,
            weight.layout,
            span(out),
            marks_pruned,
            device.stream(packed),
        )
    return out


def _repair(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Take the pruned positions of the marked `weight` out of out = x weight^T + bias, where they show."""
    with device.current(out):
        device.module().cuda_repair(
            span(x), span(weight), None if bias is None else span(bias.contiguous()), span(out), device.stream(out)
        )
