"""Attention in which a block of queries sees the blocks of keys on its list, in pure torch: as a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.backends.reference import scored_attention as reference

__all__ = ["block_sparse_attention", "expand"]


def expand(offsets: Tensor, indices: Tensor, query_block: int, key_block: int, queries: int, keys: int) -> Tensor:
    """Block lists as a mask: bool [B or 1, H or 1, queries, keys], True where a query sees a key."""
    batch, heads, bounds = offsets.shape
    ends = offsets[..., 1:].reshape(-1).contiguous()
    row = torch.searchsorted(ends, torch.arange(indices.numel(), device=indices.device), right=True)
    blocks = torch.zeros(ends.numel(), -(-keys // key_block), dtype=torch.bool, device=indices.device)
    blocks[row, indices.long()] = True
    blocks = blocks.view(batch, heads, bounds - 1, blocks.shape[-1])
    return blocks.repeat_interleave(query_block, 2)[:, :, :queries].repeat_interleave(key_block, 3)[..., :keys]


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
    """See `sparsecore.ops.block_sparse_attention`."""
    mask = expand(offsets, indices, query_block, key_block, q.shape[2], k.shape[2])
    return reference.scored_attention(q, k, v, mask, None, causal, scale, 1.0, token_scores, head_scores)
