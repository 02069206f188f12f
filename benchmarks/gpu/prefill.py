"""Attention of whole prompts, with the importance of every key and head, against the fastest of torch's SDPA."""

from __future__ import annotations

import torch
from case import Case, Work
from peers import attention_backends
from place import Place
from torch import Tensor
from torch.nn import functional as F

from sparsecore.ops import scored_attention

__all__ = ["cases"]

_BF16 = torch.bfloat16
_HEADS, _KEY_HEADS, _WIDTH = 32, 8, 128


def cases() -> list[Case]:
    """32 query heads over 8, head size 128, causal; with scores and without."""
    return [
        Case(
            "Prefill attention", f"bf16 32 heads over 8 x 128, causal, {length} tokens, {what}", _maker(length, scores)
        )
        for length in (4096, 16384)
        for what, scores in (("token and head scores", True), ("no scores", False))
    ]


def _maker(length: int, scores: bool) -> object:
    return lambda place: _work(place, length, scores)


def _work(place: Place, length: int, scores: bool) -> Work:
    q, k, v = inputs(place, length)
    tokens = q.shape[2]
    pairs = q.shape[1] * tokens * (tokens + 1) / 2
    work = Work(
        calls={"ours": lambda: scored_attention(q, k, v, causal=True, token_scores=scores, head_scores=scores).out},
        exact=exact(q, k, v),
        moved=2.0 * (2 * q.numel() + k.numel() + v.numel()),
        products=2 * pairs * q.shape[3],
        dense_products=2 * pairs * q.shape[3],
    )
    for name, call in attention_backends(q, k, v, is_causal=True, enable_gqa=True).items():
        work.compare(name, lambda call=call: call)
    return work


def inputs(place: Place, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random q, k and v of one sequence."""
    torch.manual_seed(2)
    heads, key_heads, width = (place.size(*sizes) for sizes in ((_HEADS, 2), (_KEY_HEADS, 1), (_WIDTH, 64)))
    tokens = place.size(length, 70)
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
