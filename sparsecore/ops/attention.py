"""Attention that reads keys in two steps: high bits first, low bits for the queries that need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsecore.backends.cpu import attention as cpu
from sparsecore.backends.reference import attention as reference
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError
from sparsecore.ops.library import define

__all__ = ["bitplane_attention"]

_MAX_BITS = 16


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, msb_bits: int, lsb_bits: int) -> None:
    if not (q.dim() == k.dim() == v.dim() == 4):
        raise ShapeError(
            f"q, k, v are {list(q.shape)}, {list(k.shape)}, {list(v.shape)}", expected="[B, H, tokens, head_dim] each"
        )
    batch, _, queries, width = q.shape
    if k.shape[:2] != q.shape[:2] or k.shape[3] != width or v.shape[:3] != k.shape[:3]:
        raise ShapeError(
            f"q, k, v are {list(q.shape)}, {list(k.shape)}, {list(v.shape)}",
            expected="equal batch and heads, q and k of one head_dim, as many values as keys",
        )
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point):
        raise DtypeError(f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}", expected="one floating point dtype")
    if mask is not None:
        if mask.dtype != torch.bool:
            raise DtypeError(f"the mask is {mask.dtype}", where="mask", expected="bool, True = attend")
        if mask.shape not in ((batch, 1, 1, k.shape[2]), (batch, 1, queries, k.shape[2])):
            raise ShapeError(
                f"the mask is {list(mask.shape)}", where="mask", expected=f"[{batch}, 1, 1 or {queries}, {k.shape[2]}]"
            )
    if msb_bits < 2 or lsb_bits < 0 or msb_bits + lsb_bits > _MAX_BITS:
        raise InvalidValueError(
            f"{msb_bits} + {lsb_bits} bits",
            where="msb_bits, lsb_bits",
            expected=f"2 <= msb, 0 <= lsb, sum <= {_MAX_BITS}",
        )


class Backend(Protocol):
    """A back end's kernel."""

    def bitplane_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        msb_bits: int,
        lsb_bits: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def _kernel(backend: Backend) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        msb_bits: int,
        lsb_bits: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        _check(q, k, v, mask, msb_bits, lsb_bits)
        return backend.bitplane_attention(q, k, v, mask, scale, msb_bits, lsb_bits, threshold)

    return kernel


class _Shapes:
    """The back end of fake tensors: results have the right shapes and no values."""

    @staticmethod
    def bitplane_attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        msb_bits: int,
        lsb_bits: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, heads, queries, _ = q.shape
        return (
            q.new_empty(batch, heads, queries, v.shape[3]),
            q.new_empty((batch, heads, k.shape[2]), dtype=torch.float32),
            q.new_empty((batch, heads, queries), dtype=torch.bool),
        )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, mask, ctx.scale, ctx.msb_bits, ctx.lsb_bits, _ = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(q, k, v, mask, output[2])


def _backward(ctx: Any, grad_out: Tensor, grad_sums: Tensor, grad_needs: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, mask, needs_lsb = ctx.saved_tensors
    grads = reference.bitplane_attention_gradients(
        grad_out, grad_sums, q, k, v, mask, needs_lsb, ctx.scale, ctx.msb_bits, ctx.lsb_bits
    )
    return (*grads, None, None, None, None, None)


# Gradients take the quantisation as the identity (straight-through), and the choice of bits as given.
bitplane_attention = define(
    "bitplane_attention(Tensor q, Tensor k, Tensor v, Tensor? mask, float scale, int msb_bits, int lsb_bits, "
    "float threshold) -> (Tensor out, Tensor column_sums, Tensor needs_lsb)",
    fake=_kernel(_Shapes),
    backward=_backward,
    setup_context=_save,
    CPU=_kernel(cpu),
    CompositeExplicitAutograd=_kernel(reference),
)
