"""Attention in which every block of queries has a list of the key blocks that it sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsecore.backends.cpu import block_sparse_attention as cpu
from sparsecore.backends.cuda import block_sparse_attention as cuda
from sparsecore.backends.reference import block_sparse_attention as reference
from sparsecore.backends.reference.scored_attention import scored_attention_gradients
from sparsecore.devices import require_one_device
from sparsecore.errors import InvalidValueError, ShapeError
from sparsecore.ops.block_mask import BLOCK_SIZES, BlockMask
from sparsecore.ops.library import define
from sparsecore.ops.scored_attention import Scored, check_scored

__all__ = ["block_sparse_attention"]

_Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _check(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, indices: Tensor, query_block: int, key_block: int, scale: float
) -> None:
    check_scored(q, k, v, None, None, scale, 1.0)
    require_one_device("q", q, mask=(offsets, indices))
    if query_block not in BLOCK_SIZES or key_block not in BLOCK_SIZES:
        raise InvalidValueError(f"blocks of {query_block} x {key_block}", where="block_size", expected="64 or 128 each")
    batch, heads, queries, _ = q.shape
    lists = -(-queries // query_block) + 1
    fits = offsets.dim() == 3 and offsets.shape[0] in (1, batch) and offsets.shape[1] in (1, heads)
    if not fits or offsets.shape[2] != lists or indices.dim() != 1:
        raise ShapeError(
            f"the lists are {list(offsets.shape)}, {list(indices.shape)}",
            where="mask",
            expected=f"[{batch} or 1, {heads} or 1, {lists}], [n]",
        )


class Backend(Protocol):
    """A back end's kernel; the arguments are those of the operator, checked."""

    def block_sparse_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        offsets: Tensor,
        indices: Tensor,
        query_block: int,
        key_block: int,
        causal: bool,
        scale: float,
        token_scores: bool,
        head_scores: bool,
    ) -> _Outputs: ...


def _kernel(backend: Backend) -> Callable[..., _Outputs]:
    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        offsets: Tensor,
        indices: Tensor,
        query_block: int,
        key_block: int,
        causal: bool,
        scale: float,
        token_scores: bool,
        head_scores: bool,
    ) -> _Outputs:
        _check(q, k, v, offsets, indices, query_block, key_block, scale)
        return backend.block_sparse_attention(
            q, k, v, offsets, indices, query_block, key_block, causal, scale, token_scores, head_scores
        )

    return kernel


class _Shapes:
    """The back end of fake tensors: results have the right shapes and no values."""

    @staticmethod
    def block_sparse_attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        offsets: Tensor,
        indices: Tensor,
        query_block: int,
        key_block: int,
        causal: bool,
        scale: float,
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
    q, k, v, offsets, indices, ctx.query_block, ctx.key_block, ctx.causal, ctx.scale, _, _ = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(q, k, v, offsets, indices)


def _backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor, *scores: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, offsets, indices = ctx.saved_tensors
    mask = reference.expand(offsets, indices, ctx.query_block, ctx.key_block, q.shape[2], k.shape[2])
    grads = scored_attention_gradients(grad_out, grad_lse, q, k, v, mask, ctx.causal, ctx.scale, 1.0)
    return (*grads, *(None,) * 8)


_block_sparse_attention = define(
    "block_sparse_attention(Tensor q, Tensor k, Tensor v, Tensor offsets, Tensor indices, int query_block, "
    "int key_block, bool causal, float scale, bool token_scores, bool head_scores) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_kernel(_Shapes),
    backward=_backward,
    setup_context=_save,
    CPU=_kernel(cpu),
    CUDA=_kernel(cuda),
    CompositeExplicitAutograd=_kernel(reference),
)


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: BlockMask,
    causal: bool = False,
    scale: float | None = None,
    token_scores: bool = False,
    head_scores: bool = False,
) -> Scored:
    """Return `scored_attention` where a query sees a key only if their blocks are paired in `mask`.

    On a CUDA device blocks that are not listed are neither read nor multiplied; on the CPU the lists become a mask, and
    blocks that no query of a tile sees are not multiplied. Gradients are those of `scored_attention`.

    Parameters
    ----------
    q, k, v, causal, scale, token_scores, head_scores: as in `scored_attention`.
    mask: a BlockMask for the tokens of q and k, on their device.

    Raises
    ------
    ShapeError, DtypeError, InvalidValueError, UnsupportedError: as `scored_attention`; ShapeError for a mask of other
    sizes.
    """
    if scale is None:
        scale = max(q.shape[-1], 1) ** -0.5 if q.dim() else 1.0
    if q.dim() == k.dim() == 4 and (mask.queries, mask.keys) != (q.shape[2], k.shape[2]):
        raise ShapeError(
            f"a mask of {mask.queries} queries and {mask.keys} keys",
            where="mask",
            expected=f"{q.shape[2]}, {k.shape[2]}",
        )
    return Scored(
        *_block_sparse_attention(
            q, k, v, mask.offsets, mask.indices, *mask.block_size, causal, scale, token_scores, head_scores
        )
    )
