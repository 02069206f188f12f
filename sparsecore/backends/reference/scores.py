"""Importance scores in integers, so that neither the order of a sum nor the number of threads changes them.

A probability p counts as round(p * 2^20), half to even. A head is as important as the sum of its |output|, where each
element counts as round(|out| * 2^20) of the output as it is stored, and at most as 2^31 - 1 (from 2048 on). A NaN
counts as 0. Sums are int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LARGEST_OUTPUT", "SCORE_BITS", "head_scores", "in_units", "largest", "value_counts"]

SCORE_BITS = 20
LARGEST_OUTPUT = (1 << 31) - 1
# 0.3 * 10 is a little below 3 in binary and shall be 3.
_ROUNDING = 1e-9


def in_units(p: Tensor) -> Tensor:
    """Probabilities [...] as int64 counts of 2^-20."""
    return torch.where(p.isnan(), 0, torch.round(p.double() * (1 << SCORE_BITS))).long()


def head_scores(out: Tensor) -> Tensor:
    """Sum of |out| over the last two dimensions of out [..., L, D], as int64 [...] counts of 2^-20."""
    units = torch.round(out.double().abs() * (1 << SCORE_BITS)).clamp(max=LARGEST_OUTPUT)
    return torch.where(units.isnan(), 0, units).long().sum((-2, -1))


def value_counts(keep: float, visible: Tensor) -> Tensor:
    """How many of its `visible` V rows (int64 [...]) a query multiplies: the share `keep`, rounded down, at least 1."""
    count = torch.floor(visible.double() * keep + _ROUNDING).long().clamp(min=1)
    return torch.minimum(count, visible)


def largest(p: Tensor, visible: Tensor, counts: Tensor) -> Tensor:
    """Choose for each row of p [..., n] the `counts` [...] largest among the `visible` (bool [..., n]) entries.

    Returns bool [..., n]. NaN is largest, equal values go to the lower index.
    """
    ranked = torch.where(visible, p, -1).sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(p.shape[-1], device=p.device).expand_as(ranked)
    rank = torch.empty_like(ranked).scatter_(-1, ranked, places)
    return (rank < counts.unsqueeze(-1)) & visible
