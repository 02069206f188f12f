"""Rows of a ragged batch moved together: the tokens that go on to the next layer, and back to where they came from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsecore.backends.cpu import rows as cpu
from sparsecore.backends.cuda import rows as cuda
from sparsecore.backends.reference import rows as reference
from sparsecore.errors import DtypeError, ShapeError
from sparsecore.ops.direct import needs_gradient, runs_directly
from sparsecore.ops.library import define

__all__ = ["gather_rows", "scatter_rows_"]


def _check_rows(x: Tensor, index: Tensor, names: tuple[str, str]) -> None:
    if x.dim() != 3:
        raise ShapeError(f"{names[0]} is {list(x.shape)}", where=names[0], expected="[B, rows, C]")
    if index.dim() != 2 or index.shape[0] != x.shape[0]:
        raise ShapeError(f"{names[1]} is {list(index.shape)}", where=names[1], expected=f"[{x.shape[0]}, m]")
    if index.dtype != torch.int64:
        raise DtypeError(f"{names[1]} is {index.dtype}", where=names[1], expected="int64")


def _check_scatter(out: Tensor, positions: Tensor, x: Tensor) -> None:
    _check_rows(out, positions, ("out", "positions"))
    wanted = (*positions.shape, out.shape[2])
    if x.shape != wanted:
        raise ShapeError(f"x is {list(x.shape)}", where="x", expected=f"{list(wanted)}")
    if x.dtype != out.dtype:
        raise DtypeError(f"x is {x.dtype}, out {out.dtype}", where="x", expected="one dtype")


def _gather_fake(x: Tensor, index: Tensor) -> Tensor:
    _check_rows(x, index, ("x", "index"))
    return x.new_empty((*index.shape, x.shape[2]))


def _gather_reference(x: Tensor, index: Tensor) -> Tensor:
    _check_rows(x, index, ("x", "index"))
    return reference.gather_rows(x, index)


def _gather_cpu(x: Tensor, index: Tensor) -> Tensor:
    _check_rows(x, index, ("x", "index"))
    return cpu.gather_rows(x, index)


def _gather_cuda(x: Tensor, index: Tensor) -> Tensor:
    _check_rows(x, index, ("x", "index"))
    return cuda.gather_rows(x, index)


def _gather_save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.shape = inputs[0].shape


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (index,) = ctx.saved_tensors
    return grad.new_zeros(ctx.shape).scatter_add(1, index.unsqueeze(-1).expand(grad.shape), grad), None


def _scatter_fake(out: Tensor, positions: Tensor, x: Tensor) -> None:
    _check_scatter(out, positions, x)


def _scatter_reference(out: Tensor, positions: Tensor, x: Tensor) -> None:
    _check_scatter(out, positions, x)
    reference.scatter_rows_(out, positions, x)


def _scatter_cpu(out: Tensor, positions: Tensor, x: Tensor) -> None:
    _check_scatter(out, positions, x)
    cpu.scatter_rows_(out, positions, x)


def _scatter_cuda(out: Tensor, positions: Tensor, x: Tensor) -> None:
    _check_scatter(out, positions, x)
    cuda.scatter_rows_(out, positions, x)


_gather_rows = define(
    "gather_rows(Tensor x, Tensor index) -> Tensor",
    fake=_gather_fake,
    backward=_gather_backward,
    setup_context=_gather_save,
    CPU=_gather_cpu,
    CUDA=_gather_cuda,
    CompositeExplicitAutograd=_gather_reference,
)
# An operator that writes into its argument cannot have a gradient of its own: scatter_rows_ below has.
_scatter_rows_ = define(
    "scatter_rows_(Tensor(a!) out, Tensor positions, Tensor x) -> ()",
    fake=_scatter_fake,
    CPU=_scatter_cpu,
    CUDA=_scatter_cuda,
    CompositeExplicitAutograd=_scatter_reference,
)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return rows index[b, s] of each x[b] as [B, m, C].

    `torch.ops.sparsecore.gather_rows` without the dispatcher where that is not needed.

    Parameters
    ----------
    x: [B, n, C], any dtype and strides; has a gradient. index: int64 [B, m].

    Raises
    ------
    ShapeError, DtypeError. InvalidValueError: unless 0 <= index < n; on other devices than the CPU as torch's indexing.
    """
    if runs_directly(x) and index.is_cpu and not needs_gradient(x):
        return _gather_cpu(x, index)
    rows: Tensor = _gather_rows(x, index)
    return rows


def scatter_rows_(out: Tensor, positions: Tensor, x: Tensor) -> Tensor:
    """Write row x[b, s] to out[b, positions[b, s]] in place and return out.

    Rows with positions outside [0, L) go nowhere; where two have one position the later slot wins.
    `torch.ops.sparsecore.scatter_rows_` (which returns nothing) without the dispatcher where that is not needed; where
    autograd looks, plain torch operators with gradients to out and x.

    Parameters
    ----------
    out: [B, L, C], any dtype and strides. positions: int64 [B, m]. x: [B, m, C] in the dtype of out.

    Raises
    ------
    ShapeError, DtypeError.
    """
    if needs_gradient(out, None) or needs_gradient(x):
        _scatter_reference(out, positions, x)
    elif runs_directly(out) and runs_directly(x) and positions.is_cpu:
        _scatter_cpu(out, positions, x)
    else:
        _scatter_rows_(out, positions, x)
    return out
