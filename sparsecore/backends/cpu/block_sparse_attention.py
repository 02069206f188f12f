"""Block-sparse attention on the compiled kernels: the lists as a mask, which leaves out blocks that no query sees."""

from __future__ import annotations

from torch import Tensor

from sparsecore.backends.cpu import scored_attention as cpu
from sparsecore.backends.reference.block_sparse_attention import expand

__all__ = ["block_sparse_attention"]


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See `reference.block_sparse_attention`."""
    mask = expand(offsets, indices, query_block, key_block, q.shape[2], k.shape[2])
    return cpu.scored_attention(q, k, v, mask, None, causal, scale, 1.0, token_scores, head_scores)
