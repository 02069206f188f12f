"""Sparse linear layers in pure torch: y = activation(x W^T + bias), summed over the stored positions of W only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from sparsecore import resident
from sparsecore.backends.reference import quantised
from sparsecore.devices import require_one_device
from sparsecore.dtypes import DTYPES, is_quantised
from sparsecore.errors import DtypeError
from sparsecore.formats import StoredWeight

__all__ = [
    "ACTIVATIONS",
    "grad_input",
    "linear",
    "masked_matmul",
    "packed_grad_input",
    "packed_linear",
    "packed_to_dense",
]

# Name -> function; the formulas are those of torch.nn.functional. gelu is written out because torch's vector code gives
# NaN for +inf.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "none": lambda x: x,
        "relu": functional.relu,
        "gelu": lambda x: 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5))),
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
    }
)

_CHUNK_ELEMENTS = 1 << 24


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None, activation: str, expected: resident.Expected
) -> Tensor:
    """The layer for a resident weight on any device; the weight is unpacked for the call, on its own device.

    Raises ResidentError if the weight is not the `expected` one, UnsupportedError if it is on another device.
    """
    require_one_device("the input", x, weight=packed, bias=bias)
    stored = resident.stored_beside(packed, expected)
    require_dtype(x, bias, stored.dtype)
    if is_quantised(stored.dtype):
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        out = quantised.linear(rows, *stored.unpack_quantised(), bias, ACTIVATIONS[activation])
        return out.reshape(*x.shape[:-1], stored.shape[0])
    return linear(x, stored.unpack(), stored.keep_mask(), bias, activation)


def packed_grad_input(grad: Tensor, packed: Tensor, expected: resident.Expected) -> Tensor:
    """Gradient of the layer's input: grad W, summed over the stored positions; grad [..., out] to [..., in].

    With quantised values W is value * scale, and the rounding of x counts as its identity (straight-through).
    """
    require_one_device("the gradient", grad, weight=packed)
    return grad_input(grad, resident.stored_beside(packed, expected))


def grad_input(grad: Tensor, stored: StoredWeight) -> Tensor:
    """`packed_grad_input` for a stored weight on the device of `grad`; computed in the dtype of the dense weight."""
    dense = stored.unpack()
    rows = grad.reshape(math.prod(grad.shape[:-1]), dense.shape[0]).to(dense.dtype)
    result = masked_matmul(rows, dense.t(), lambda: stored.keep_mask().t())
    return result.to(grad.dtype).reshape(*grad.shape[:-1], dense.shape[1])


def packed_to_dense(packed: Tensor, expected: resident.Expected) -> Tensor:
    """Dense weight [out_features, in_features] of a resident one, on its device."""
    return resident.stored_beside(packed, expected).unpack()


def linear(
    x: Tensor, dense: Tensor, mask: Tensor, bias: Tensor | None, activation: str, compute: torch.dtype = torch.float32
) -> Tensor:
    """activation(sum over stored columns of x * W + bias), computed in `compute` and rounded once to x.dtype.

    x [..., in_features], dense [out_features, in_features] with its keep `mask`, bias [out_features].
    """
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).to(compute)
    total = masked_matmul(rows, dense.to(compute), lambda: mask)
    if bias is not None:
        total = total + bias.to(compute)
    return ACTIVATIONS[activation](total).to(x.dtype).reshape(*x.shape[:-1], dense.shape[0])


def masked_matmul(x: Tensor, dense: Tensor, mask: Callable[[], Tensor]) -> Tensor:
    """X [tokens, in] times dense [out, in] transposed; a position outside the mask adds nothing, not even 0 * inf.

    `dense` is 0 outside the mask, so that only tokens with an infinity or a NaN need the mask and the sum position by
    position.
    """
    total = x @ dense.t()
    special = (~x.isfinite()).any(1).nonzero().squeeze(1)
    if len(special):
        kept = mask()
        wide = torch.promote_types(x.dtype, torch.float32)
        step = max(1, _CHUNK_ELEMENTS // max(1, dense.numel()))
        for start in range(0, len(special), step):
            tokens = special[start : start + step]
            products = x[tokens, None, :].to(wide) * dense.to(wide)
            total[tokens] = torch.where(kept, products, 0).sum(-1).to(total.dtype)
    return total


def require_dtype(x: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
    """Raise DtypeError unless input and bias have the weight's dtype.

    With a quantised weight the input may have any float type, and the bias that type or float32.
    """
    if is_quantised(dtype):
        if x.dtype not in DTYPES or (bias is not None and bias.dtype not in (x.dtype, torch.float32)):
            raise DtypeError(
                f"the input is {x.dtype}, the bias {None if bias is None else bias.dtype}, the weight {dtype}",
                expected="an input of float32, float16 or bfloat16, and a bias of that type or float32",
            )
        return
    if x.dtype is not dtype or (bias is not None and bias.dtype is not dtype):
        raise DtypeError(
            f"the input is {x.dtype}, the bias {None if bias is None else bias.dtype}, the weight {dtype}",
            expected="one dtype",
            hint="convert the module with .to(dtype); under autocast PackedWeight.linear converts the input",
        )
