"""Attention that also says how much every token and every head mattered, without probabilities in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sparsecore.backends.cpu import scored_attention as cpu
from sparsecore.backends.cuda import scored_attention as cuda
from sparsecore.backends.reference import scored_attention as reference
from sparsecore.backends.reference.scores import SCORE_BITS
from sparsecore.devices import require_one_device
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops.direct import needs_gradient, runs_directly
from sparsecore.ops.library import define

__all__ = ["SCORE_BITS", "Scored", "check_scored", "scored_attention"]

_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Scored(NamedTuple):
    """What `scored_attention` returns.

    Parameters
    ----------
    out: [B, Hq, Lq, Dv] in the dtype of q. lse: fp32 [B, Hq, Lq], natural logarithm of the sum of exp(score).
    token_scores: int64 [B, Hq, Lk]; [B, Hq, 0] if not wanted. head_scores: int64 [B, Hq]; [B, 0] if not wanted.
    values_used: int32 [B, Hq], V rows that any counted query multiplied.
    """

    out: Tensor
    lse: Tensor
    token_scores: Tensor
    head_scores: Tensor
    values_used: Tensor


def check_scored(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, counted: Tensor | None, scale: float, value_keep: float
) -> None:
    """Raise ShapeError, DtypeError, InvalidValueError or UnsupportedError for arguments that no back end takes."""
    require_one_device("q", q, k=k, v=v, mask=mask, counted=counted)
    shapes = f"q, k, v are {list(q.shape)}, {list(k.shape)}, {list(v.shape)}"
    if not (q.dim() == k.dim() == v.dim() == 4):
        raise ShapeError(shapes, expected="[B, heads, tokens, head_dim] each")
    batch, heads, queries, width = q.shape
    if k.shape[0] != batch or k.shape[3] != width or v.shape[:3] != k.shape[:3]:
        raise ShapeError(shapes, expected="equal batch, q and k of one head_dim, as many values as keys")
    if heads % max(k.shape[1], 1) or (k.shape[1] == 0 and heads):
        raise ShapeError(shapes, expected="the heads of q are a multiple of the heads of k and v")
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point):
        raise DtypeError(f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}", expected="one floating point dtype")
    if mask is not None:
        if mask.dtype != torch.bool:
            raise DtypeError(f"the mask is {mask.dtype}", where="mask", expected="bool, True = attend")
        wanted = (batch, heads, queries, k.shape[2])
        fits = mask.dim() == 4 and all(
            have == size or (have == 1 and place < 3)
            for place, (have, size) in enumerate(zip(mask.shape, wanted, strict=True))
        )
        if not fits:
            raise ShapeError(
                f"the mask is {list(mask.shape)}",
                where="mask",
                expected=f"[{batch} or 1, {heads} or 1, {queries} or 1, {k.shape[2]}]",
            )
    if counted is not None:
        if counted.dtype != torch.bool:
            raise DtypeError(f"counted is {counted.dtype}", where="counted", expected="bool, True = counts")
        if counted.shape != (batch, queries):
            raise ShapeError(f"counted is {list(counted.shape)}", where="counted", expected=f"[{batch}, {queries}]")
    if not math.isfinite(scale):
        raise InvalidValueError(f"scale is {scale}", where="scale", expected="a finite number")
    if not 0 < value_keep <= 1:
        raise InvalidValueError(f"value_keep is {value_keep}", where="value_keep", expected="0 < value_keep <= 1")


class Backend(Protocol):
    """A back end's kernel; the arguments are those of the operator, checked."""

    def scored_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        counted: Tensor | None,
        causal: bool,
        scale: float,
        value_keep: float,
        token_scores: bool,
        head_scores: bool,
    ) -> _Outputs: ...


def _kernel(backend: Backend) -> Callable[..., _Outputs]:
    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        counted: Tensor | None,
        causal: bool,
        scale: float,
        value_keep: float,
        token_scores: bool,
        head_scores: bool,
    ) -> _Outputs:
        check_scored(q, k, v, mask, counted, scale, value_keep)
        return backend.scored_attention(q, k, v, mask, counted, causal, scale, value_keep, token_scores, head_scores)

    return kernel


class _Shapes:
    """The back end of fake tensors: results have the right shapes and no values."""

    @staticmethod
    def scored_attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        counted: Tensor | None,
        causal: bool,
        scale: float,
        value_keep: float,
        token_scores: bool,
        head_scores: bool,
    ) -> _Outputs:
        batch, heads, queries, _ = q.shape
        return (
            q.new_empty((batch, heads, queries, v.shape[3])),
            q.new_empty((batch, heads, queries), dtype=torch.float32),
            q.new_empty((batch, heads, k.shape[2] if token_scores else 0), dtype=torch.int64),
            q.new_empty((batch, heads if head_scores else 0), dtype=torch.int64),
            q.new_empty((batch, heads), dtype=torch.int32),
        )


def _save(ctx: Any, inputs: tuple[Any, ...], output: _Outputs) -> None:
    q, k, v, mask, _, ctx.causal, ctx.scale, ctx.value_keep, _, _ = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(q, k, v, mask)


def _backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor, *scores: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, mask = ctx.saved_tensors
    grads = reference.scored_attention_gradients(
        grad_out, grad_lse, q, k, v, mask, ctx.causal, ctx.scale, ctx.value_keep
    )
    return (*grads, *(None,) * 7)


_CPU = _kernel(cpu)
_scored_attention = define(
    "scored_attention(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? counted, bool causal, float scale, "
    "float value_keep, bool token_scores, bool head_scores) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_kernel(_Shapes),
    backward=_backward,
    setup_context=_save,
    CPU=_CPU,
    CUDA=_kernel(cuda),
    CompositeExplicitAutograd=_kernel(reference),
)


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    counted: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    value_keep: float = 1.0,
    token_scores: bool = True,
    head_scores: bool = True,
) -> Scored:
    """Return softmax(scale q k^T) v with the importance of every key and head as integers.

    `torch.ops.sparsecore.scored_attention` (all arguments given, a plain tuple) without the dispatcher where that is
    not needed. Scores are exact sums of rounded terms: the same for any order and number of threads. Gradients reach q,
    k and v; they take the choice of V rows as given and materialise the probabilities.

    Parameters
    ----------
    q: [B, Hq, Lq, D]. k: [B, Hkv, Lk, D]. v: [B, Hkv, Lk, Dv]. One dtype: fp32, bf16 or fp16 (fp64: pure torch); any
        strides; Hq a multiple of Hkv, query head h reads key head h // (Hq // Hkv).
    mask: bool [B or 1, Hq or 1, Lq or 1, Lk], True = the query sees the key. A key that is not seen contributes
        nothing, whatever it holds; a query that sees none has out 0 and lse -inf.
    counted: bool [B, Lq], queries that count in the scores and in values_used (those of padding do not); None: all.
    causal: key j is seen by query i only if j <= i + Lk - Lq.
    scale: factor of the scores; None: D ** -0.5.
    value_keep: each query multiplies only the max(1, floor(value_keep * seen keys)) V rows of largest probability,
        equal ones to the lower index, and does not renormalise (SpAtten, arXiv 2012.09852, section III-C). 1e-9 is
        added before rounding down, so that 0.3 of 10 is 3.
    token_scores: whether to add up probabilities per key: each counts as round(p * 2^SCORE_BITS), half to even, before
        any value is dropped.
    head_scores: whether to add up |out| per head: each element as round(|out| * 2^SCORE_BITS) of the stored output, at
        most 2^31 - 1. NaN counts as 0 in both.

    Raises
    ------
    ShapeError, DtypeError: tensors that do not fit together. InvalidValueError: value_keep outside (0, 1], a scale that
    is not finite. UnsupportedError: tensors on two devices.
    """
    if scale is None:
        scale = max(q.shape[-1], 1) ** -0.5 if q.dim() else 1.0
    arguments = (q, k, v, mask, counted, causal, scale, value_keep, token_scores, head_scores)
    tensors = (q, k, v, *(t for t in (mask, counted) if t is not None))
    if all(runs_directly(t) for t in tensors) and not any(needs_gradient(t) for t in (q, k, v)):
        return Scored(*_CPU(*arguments))
    return Scored(*_scored_attention(*arguments))
