"""Top-k in pure torch: NaN is largest, equal values go to the lower index."""

from __future__ import annotations

from torch import Tensor

__all__ = ["topk_select", "topk_threshold"]


def topk_select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of x [..., n] as (values, int64 indices), both [..., k], in ascending index order."""
    indices = x.sort(dim=-1, descending=True, stable=True).indices[..., :k].sort(-1).values
    return x.gather(-1, indices), indices


def topk_threshold(x: Tensor, k: int) -> Tensor:
    """The k-th largest value of each row of x [..., n], as [...]; 1 <= k <= n. A zero is +0."""
    return x.sort(-1, descending=True).values[..., k - 1] + 0
