"""Attention of whole prompts, with the importance of every key and head, against the fastest of torch's SDPA."""

from __future__ import annotations

from collections.abc import Callable

import torch
from case import Bar, Case, Work
from errors import Bound
from peers import attention_backends
from place import Call, Place
from torch import Tensor
from torch.nn import functional as F

from sparsecore.ops import BlockMask, block_sparse_attention, scored_attention

__all__ = ["cases"]

_BF16 = torch.bfloat16
_HEADS, _KEY_HEADS, _WIDTH = 32, 8, 128
_BLOCK = (128, 64)
_BOUND = Bound(norm=6e-3, worst=2e-2, times=3)
"""Probabilities are rounded to bf16 before they weight the values, and the result once more."""


def cases() -> list[Case]:
    """32 query heads over 8, head size 128, causal; with scores and without, and with blocks left out."""
    heads = "bf16 32 heads over 8 x 128, causal"
    whole = [
        Case("Prefill attention", f"{heads}, {length} tokens, {what}", _maker(length, scores))
        for length in (4096, 16384)
        for what, scores in (("token and head scores", True), ("no scores", False))
    ]
    return whole + [
        Case("Prefill attention", f"{heads}, 16384 tokens, {share:.0%} of the blocks of 128 x 64 left out",
             _sparse_maker(16384, share), (Bar("SDPA", 0.85 / (1 - share), 0.92 / (1 - share)),))
        for share in (0.5, 0.75)
    ]  # fmt: skip


def _maker(length: int, scores: bool) -> Callable[[Place], Work]:
    return lambda place: _work(place, length, scores)


def _sparse_maker(length: int, share: float) -> Callable[[Place], Work]:
    return lambda place: _sparse_work(place, length, share)


def _work(place: Place, length: int, scores: bool) -> Work:
    q, k, v = inputs(place, length)
    tokens = q.shape[2]

    def ours() -> Tensor:
        return scored_attention(q, k, v, causal=True, token_scores=scores, head_scores=scores).out

    return _against_sdpa(ours, q, k, v, exact(q, k, v), tokens * (tokens + 1) / 2)


def _sparse_work(place: Place, length: int, share: float) -> Work:
    """All queries lack the same random blocks, but none the one that it lies in; making the mask counts as ours."""
    q, k, v = inputs(place, length)
    tokens, (rows, cols) = q.shape[2], _BLOCK
    shape = (-(-tokens // rows), -(-tokens // cols))
    kept = torch.rand(shape, device=place.device) >= share
    first = torch.arange(shape[0], device=place.device)[:, None] * rows
    block = torch.arange(shape[1], device=place.device)[None] * cols
    kept |= (block + cols > first) & (block < first + rows)
    seen = kept.repeat_interleave(rows, 0)[:tokens].repeat_interleave(cols, 1)[:, :tokens]

    def ours() -> Tensor:
        mask = BlockMask.from_dense(kept[None, None], tokens, tokens, _BLOCK)
        return block_sparse_attention(q, k, v, mask, causal=True).out

    return _against_sdpa(ours, q, k, v, exact(q, k, v, seen), float(seen.tril().sum()), comparable=False)


def _against_sdpa(
    ours: Call, q: Tensor, k: Tensor, v: Tensor, result: Tensor, pairs: float, comparable: bool = True
) -> Work:
    """pairs: of queries and keys that see each other, of one head. SDPA sees all of the causal ones."""
    tokens, each = q.shape[2], 2.0 * q.shape[1] * q.shape[3]
    work = Work(
        calls={"ours": ours},
        exact=result,
        bound=_BOUND,
        moved=2.0 * (2 * q.numel() + k.numel() + v.numel()),
        products=each * pairs,
        dense_products=each * tokens * (tokens + 1) / 2,
        comparable=comparable,
    )
    for name, call in attention_backends(q, k, v, is_causal=True, enable_gqa=True).items():
        work.compare(name, lambda call=call: call)
    return work


def inputs(place: Place, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k and v of one sequence."""
    torch.manual_seed(2)
    heads, key_heads, width = (place.size(*sizes) for sizes in ((_HEADS, 2), (_KEY_HEADS, 1), (_WIDTH, 64)))
    tokens = place.size(length, 200)
    return (
        place.random(1, heads, tokens, width, dtype=_BF16),
        *(place.random(1, key_heads, tokens, width, dtype=_BF16) for _ in range(2)),
    )  # type: ignore[return-value]


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention in float64, head by head; mask: bool [queries, keys], True where a query may see a key."""
    group, tokens = q.shape[1] // k.shape[1], q.shape[2]
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).tril()
    seen = seen if mask is None else seen & mask
    heads = []
    for head in range(q.shape[1]):
        own = (q[:, head], k[:, head // group], v[:, head // group])
        heads.append(F.scaled_dot_product_attention(*(part.double() for part in own), attn_mask=seen).float())
    return torch.stack(heads, 1)
