"""Block-sparse attention on a CUDA device: the kernels of `scored_attention` walk along the lists."""

from __future__ import annotations

from torch import Tensor

from sparsecore.backends.cuda import scored_attention as cuda
from sparsecore.backends.reference import block_sparse_attention as reference
from sparsecore.native import span

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
    """See `reference.block_sparse_attention`; blocks that are on no list cost nothing."""
    if not cuda.takes(q):
        return reference.block_sparse_attention(
            q, k, v, offsets, indices, query_block, key_block, causal, scale, token_scores, head_scores
        )
    offsets, indices = offsets.contiguous(), indices.contiguous()
    blocks = (span(offsets), span(indices), query_block, key_block)
    return cuda.launch(q, k, v, None, None, blocks, causal, scale, 1.0, token_scores, head_scores)
