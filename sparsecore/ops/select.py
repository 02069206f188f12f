"""Top-k of ragged rows: every sequence of a batch has its own length and keeps its own number."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.cpu import rows as cpu
from sparsecore.backends.cuda import topk as cuda
from sparsecore.backends.reference import rows as reference
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops.direct import runs_directly
from sparsecore.ops.library import define

__all__ = ["ragged_topk"]


def _check(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> None:
    if scores.dim() != 2:
        raise ShapeError(f"scores are {list(scores.shape)}", where="scores", expected="[B, n]")
    if scores.dtype not in (torch.int64, torch.float32):
        raise DtypeError(f"scores are {scores.dtype}", where="scores", expected="int64 or fp32")
    for name, tensor in (("counts", counts), ("keep", keep)):
        if tensor.shape != scores.shape[:1]:
            raise ShapeError(f"{name} is {list(tensor.shape)}", where=name, expected=f"[{scores.shape[0]}]")
        if tensor.dtype != torch.int64:
            raise DtypeError(f"{name} is {tensor.dtype}", where=name, expected="int64")
    if width < 0:
        raise InvalidValueError(f"width is {width}", where="width", expected="at least 0")


def _fake(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    _check(scores, counts, keep, width)
    return scores.new_empty((scores.shape[0], width), dtype=torch.int64)


def _reference(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    _check(scores, counts, keep, width)
    return reference.ragged_topk(scores, counts, keep, width)


def _cpu(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    _check(scores, counts, keep, width)
    return cpu.ragged_topk(scores, counts, keep, width)


def _cuda(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    _check(scores, counts, keep, width)
    return cuda.ragged_topk(scores, counts, keep, width)


_ragged_topk = define(
    "ragged_topk(Tensor scores, Tensor counts, Tensor keep, SymInt width) -> Tensor",
    fake=_fake,
    CPU=_cpu,
    CUDA=_cuda,
    CompositeExplicitAutograd=_reference,
)


def ragged_topk(scores: Tensor, counts: Tensor, keep: Tensor, width: int) -> Tensor:
    """Return the slots of the keep[b] highest of the first counts[b] scores of each row b, ascending, padded with 0.

    NaN is highest, equal scores go to the lower slot, as in `topk_select`. No gradient.
    `torch.ops.sparsecore.ragged_topk` without the dispatcher where that is not needed.

    Parameters
    ----------
    scores: int64 or fp32 [B, n]. counts, keep: int64 [B]. width: columns of the result.

    Returns
    -------
    int64 [B, width].

    Raises
    ------
    ShapeError, DtypeError. InvalidValueError: unless 0 <= keep <= counts <= n and keep <= width; on other devices than
    the CPU these values are not looked at.
    """
    if runs_directly(scores, None) and counts.is_cpu and keep.is_cpu:
        return _cpu(scores, counts, keep, width)
    index: Tensor = _ragged_topk(scores, counts, keep, width)
    return index
