"""Weighted PageRank on the attention graph, then similarity. Source: Zero-TPrune (CVPR 2024, arXiv 2305.17328).

A token is important if important tokens look at it. Each head's attention is a graph whose edge query -> key weighs the
probability; s <- A^T s is repeated from the uniform vector. Heads whose importance spreads too little or too much are
left out, the others are joined by the root of the mean of squares. Of the tokens to remove, a share goes by similarity:
tokens are split by importance into halves, and those of the lesser half whose keys are most similar to a key of the
other half go first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsecore.cascade.selectors.view import Selector, View
from sparsecore.errors import InvalidValueError
from sparsecore.ops import ragged_topk

__all__ = ["PageRank"]


class PageRank(Selector):
    """Ranks tokens by weighted PageRank and removes part of them as duplicates.

    Parameters
    ----------
    iterations: of the first quarter of the layers, of the middle and of the last quarter: the graph settles faster
        where attention is concentrated. similar: the share of the removed tokens that go by similarity, in [0, 1].
    spread: smallest and largest variance of a head's importance, scaled to the mean 1; if none fits, all heads count.

    Raises
    ------
    InvalidValueError: `similar` out of range, or iterations that are not three counts of at least 1.
    """

    name = "pagerank"
    needs = frozenset({"probabilities", "keys"})

    def __init__(
        self,
        iterations: tuple[int, int, int] = (30, 5, 1),
        similar: float = 0.25,
        spread: tuple[float, float] = (0.01, 0.7),
    ) -> None:
        if len(iterations) != 3 or min(iterations) < 1:
            raise InvalidValueError(
                f"iterations are {iterations}", where="PageRank", expected="three counts, at least 1"
            )
        if not 0 <= similar <= 1:
            raise InvalidValueError(f"similar is {similar}", where="PageRank", expected="a share in [0, 1]")
        self.iterations, self.similar, self.spread = tuple(iterations), similar, spread

    def rank(self, view: View) -> Tensor:
        """Return the importance, fp32, with -1 for the tokens that are similar to a more important one."""
        importance = self._importance(view)
        return importance.masked_fill(self._duplicates(view, importance), -1.0)

    def _importance(self, view: View) -> Tensor:
        assert view.probabilities is not None
        valid = view.valid[:, None, :]
        counts = view.counts.clamp_min(1)[:, None, None]
        uniform = valid / counts.to(torch.float32)
        towards = (view.probabilities.float() * valid[..., None] * valid[:, :, None, :]).transpose(2, 3)
        score = uniform.expand(towards.shape[:3])
        quarter = max(1, view.layers // 4)
        first, middle, last = self.iterations
        times = first if view.layer < quarter else last if view.layer >= view.layers - quarter else middle
        for _ in range(times):
            score = (towards @ score[..., None]).squeeze(-1)
        score = score * counts  # the mean of a sequence is 1
        variance = ((score - 1) * valid).square().sum(-1) / counts[..., 0]
        used = (variance >= self.spread[0]) & (variance <= self.spread[1])
        used = used | ~used.any(dim=1, keepdim=True)
        squares = (score.square() * used[..., None]).sum(1) / used.sum(1, keepdim=True)
        return squares.sqrt()

    def _duplicates(self, view: View, importance: Tensor) -> Tensor:
        """Return which tokens go by similarity, bool [B, n]: in each sequence a share of those that have to go."""
        assert view.keys is not None
        half = view.counts - view.counts // 2
        better = _among(ragged_topk(importance, view.counts, half, importance.shape[1]), half)
        lesser = view.valid & ~better & ~view.protected
        keys = F.normalize(view.keys.transpose(1, 2).flatten(2).float(), dim=-1)
        likeness = (keys @ keys.transpose(1, 2)).masked_fill(~better[:, None, :], -torch.inf).amax(-1)
        wanted = ((view.counts - view.keep) * self.similar).floor().to(torch.int64)
        number = torch.minimum(wanted, lesser.sum(1))
        order = likeness.masked_fill(~lesser, -torch.inf)
        return _among(ragged_topk(order, view.counts, number, importance.shape[1]), number)


def _among(slots: Tensor, number: Tensor) -> Tensor:
    """Return a mask [B, n] of the first `number[b]` entries of `slots` [B, n]."""
    width = slots.shape[1]
    taken = torch.arange(width, device=slots.device) < number[:, None]
    mask = torch.zeros(len(slots), width + 1, dtype=torch.bool, device=slots.device)
    return mask.scatter_(1, slots.where(taken, width), True)[:, :width]
