"""Units: the weights that a pattern keeps or drops together. A weight is [out_features, in_features]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsecore.patterns import NM, Block, Unstructured

__all__ = ["expand", "keep_of_groups", "unit_scores"]


def unit_scores(scores: Tensor, pattern: Block | Unstructured) -> Tensor:
    """Score of each unit, fp32 [units], row-major, from the scores of the weights, fp32 [rows, cols].

    A block scores its L1 norm divided by the number of its weights: blocks cut off at an edge then compete on equal
    terms, and between whole blocks the order is that of the L1 norm.
    """
    if isinstance(pattern, Unstructured):
        return scores.reshape(-1)
    rows, cols = scores.shape
    # A block may be far larger than the weight: clamped, the padding below stays smaller than one block of real size.
    high, wide = min(pattern.rows, max(rows, 1)), min(pattern.cols, max(cols, 1))
    down, across = -(-rows // high), -(-cols // wide)
    padded = pad(scores, (0, across * wide - cols, 0, down * high - rows))
    total = padded.reshape(down, high, across, wide).sum(dim=(1, 3))
    heights = (rows - torch.arange(down, device=scores.device) * high).clamp(max=high)
    widths = (cols - torch.arange(across, device=scores.device) * wide).clamp(max=wide)
    return (total / (heights[:, None] * widths[None, :])).reshape(-1)


def expand(keep: Tensor, shape: tuple[int, int], pattern: Block | Unstructured) -> Tensor:
    """Keep mask of the weights, bool [rows, cols], from the keep mask of its units, bool [units]."""
    rows, cols = shape
    if isinstance(pattern, Unstructured):
        return keep.reshape(rows, cols)
    blocks = keep.reshape(-(-rows // pattern.rows), -(-cols // pattern.cols))
    row = torch.arange(rows, device=keep.device) // pattern.rows
    col = torch.arange(cols, device=keep.device) // pattern.cols
    return blocks[row[:, None], col[None, :]]


def keep_of_groups(scores: Tensor, pattern: NM) -> Tensor:
    """Keep mask, bool [rows, cols], of the n highest scores of every m along a row; ties go to the lower index.

    A last group of t < m columns keeps min(n, t).
    """
    rows, cols = scores.shape
    groups = -(-cols // pattern.m)
    # Scores are never negative, so what is padded on loses against every real weight.
    padded = pad(scores, (0, groups * pattern.m - cols), value=-1.0).reshape(rows, groups, pattern.m)
    best = padded.sort(dim=-1, descending=True, stable=True).indices[..., : pattern.n]
    keep = torch.zeros_like(padded, dtype=torch.bool).scatter_(-1, best, True)
    return keep.reshape(rows, groups * pattern.m)[:, :cols]
