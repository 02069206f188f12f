"""The most different tokens: max-min diversity. Source: DivPrune (CVPR 2025, arXiv 2503.02175).

The published greedy solution of the Max-Min Diversity Problem on the cosine distance of features: begin with the token
whose nearest other is farthest, then always add the one that is farthest from its nearest chosen one. Protected tokens,
where there are any, are chosen before the beginning.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sparsecore.cascade.selectors.view import Selector, View

__all__ = ["Diversity", "spread_out"]


class Diversity(Selector):
    """Ranks tokens by the order in which the greedy search adds them, on the layer's output."""

    name = "diversity"
    needs = frozenset({"hidden"})

    def rank(self, view: View) -> Tensor:
        """Return the number of slots less the place in the order, int64; 0 for what the search did not reach."""
        assert view.hidden is not None
        return spread_out(view.hidden, view.valid, view.protected & view.valid, view.width)


def spread_out(features: Tensor, valid: Tensor, chosen: Tensor, steps: int) -> Tensor:
    """Return n for the first token that the greedy search adds to `chosen`, n - 1 for the next, ...; 0 for others.

    Parameters
    ----------
    features: [B, n, C]. valid, chosen: bool [B, n], tokens, and those that are chosen before. steps: how many to add.
    """
    unit = F.normalize(features.float(), dim=-1)
    distance = 1 - unit @ unit.transpose(1, 2)
    size = distance.shape[1]
    alone = torch.eye(size, dtype=torch.bool, device=distance.device) | ~valid[:, None, :]
    lonely = distance.masked_fill(alone, torch.inf).amin(-1)
    begun = chosen.any(dim=1, keepdim=True)
    nearest = distance.masked_fill(~chosen[:, None, :], torch.inf).amin(-1)
    rank = torch.zeros(valid.shape, dtype=torch.int64, device=distance.device)
    free = valid & ~chosen
    for step in range(min(steps, size)):
        score = torch.where(begun, nearest, lonely).masked_fill(~free, -torch.inf)
        pick = score.argmax(dim=1, keepdim=True)
        found = free.gather(1, pick)  # false where every token of the sequence is chosen
        rank.scatter_(1, pick, torch.where(found, size - step, rank.gather(1, pick)))
        free.scatter_(1, pick, False)
        reach = distance.gather(1, pick[..., None].expand(-1, 1, size)).squeeze(1)
        nearest = torch.where(found, torch.minimum(nearest, reach), nearest)
        begun = begun | found
    return rank
