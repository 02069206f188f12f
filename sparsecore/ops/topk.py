"""Top-k of each row: k per row, NaN largest, equal values to the lower index, the same result on every machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsecore.backends.cpu import topk as cpu
from sparsecore.backends.cuda import topk as cuda
from sparsecore.backends.reference import topk as reference
from sparsecore.errors import InvalidValueError, ShapeError
from sparsecore.ops.direct import needs_gradient, runs_directly
from sparsecore.ops.library import define

__all__ = ["topk_select", "topk_threshold"]


def _check(x: Tensor, k: int, least: int) -> None:
    if x.dim() == 0:
        raise ShapeError("top-k of a scalar", where="x", expected="[..., n]")
    if not least <= k <= x.shape[-1]:
        raise InvalidValueError(f"k is {k}", where="k", expected=f"{least} <= k <= {x.shape[-1]}, the length of a row")


def _select_fake(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    _check(x, k, 0)
    shape = (*x.shape[:-1], k)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


def _select_cpu(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    _check(x, k, 0)
    return cpu.topk_select(x, k)


def _select_cuda(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    _check(x, k, 0)
    return cuda.topk_select(x, k)


def _select_reference(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    _check(x, k, 0)
    return reference.topk_select(x, k)


def _select_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.shape = inputs[0].shape


def _select_backward(ctx: Any, grad_values: Tensor, grad_indices: Tensor | None) -> tuple[Tensor, None]:
    (indices,) = ctx.saved_tensors
    return grad_values.new_zeros(ctx.shape).scatter(-1, indices, grad_values), None


def _threshold_fake(x: Tensor, k: int) -> Tensor:
    _check(x, k, 1)
    return x.new_empty(x.shape[:-1])


def _threshold_cpu(x: Tensor, k: int) -> Tensor:
    _check(x, k, 1)
    return cpu.topk_threshold(x, k)


def _threshold_cuda(x: Tensor, k: int) -> Tensor:
    _check(x, k, 1)
    return cuda.topk_threshold(x, k)


def _threshold_reference(x: Tensor, k: int) -> Tensor:
    _check(x, k, 1)
    return reference.topk_threshold(x, k)


def _threshold_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.mark_non_differentiable(output)


def _threshold_backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
    return None, None


# The gradient of the selected values goes to where they came from; a threshold is a decision and has none.
_select = define(
    "topk_select(Tensor x, SymInt k) -> (Tensor values, Tensor indices)",
    fake=_select_fake,
    backward=_select_backward,
    setup_context=_select_save,
    CPU=_select_cpu,
    CUDA=_select_cuda,
    CompositeExplicitAutograd=_select_reference,
)
_threshold = define(
    "topk_threshold(Tensor x, SymInt k) -> Tensor",
    fake=_threshold_fake,
    backward=_threshold_backward,
    setup_context=_threshold_save,
    CPU=_threshold_cpu,
    CUDA=_threshold_cuda,
    CompositeExplicitAutograd=_threshold_reference,
)


def topk_select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x [..., n] as (values, int64 indices), both [..., k], in index order.

    NaN is largest and equal values go to the lower index. Values have a gradient. `torch.ops.sparsecore.topk_select`
    without the dispatcher where that is not needed.

    Raises ShapeError for a scalar and InvalidValueError unless 0 <= k <= n.
    """
    if runs_directly(x) and not needs_gradient(x):
        return _select_cpu(x, k)
    pair: tuple[Tensor, Tensor] = _select(x, k)
    return pair


def topk_threshold(x: Tensor, k: int) -> Tensor:
    """Return the k-th largest value of each row of x [..., n], as [...]; it has no gradient. A zero is +0.

    Raises ShapeError for a scalar and InvalidValueError unless 1 <= k <= n.
    """
    if runs_directly(x) and not needs_gradient(x):
        return _threshold_cpu(x, k)
    value: Tensor = _threshold(x, k)
    return value
