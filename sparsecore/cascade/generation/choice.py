"""What one decoding step reads: within a step, a token or head that a layer drops stays dropped in later layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsecore.cascade.selectors import View, choose
from sparsecore.ops import ragged_topk

if TYPE_CHECKING:
    from sparsecore.cascade.generation.counts import StepCounts
    from sparsecore.cascade.generation.layer import CascadeLayer
    from sparsecore.cascade.generation.tokens import Tokens

__all__ = ["Choice", "pick"]


class Choice:
    """The tokens and heads that are left, while a step goes through the layers.

    Parameters
    ----------
    tokens: knows this step's token already. plan: the counts of this step.
    separate: whether layers have different rows. chooses: whether this step chooses among them at all: in "evict" mode
        most steps read all that is left. evicts: whether what is not chosen is removed for good.
    """

    def __init__(self, tokens: Tokens, plan: StepCounts, *, separate: bool, chooses: bool, evicts: bool) -> None:
        self._tokens, self._plan = tokens, plan
        self._separate, self._chooses, self._evicts = separate, chooses, evicts
        self._rows: Tensor | None = None
        self._counts = tokens.seen
        self._alive: Tensor | None = None
        self._heads: Tensor | None = None
        self.head_counts = plan.heads

    def rows(self, index: int, layer: CascadeLayer) -> tuple[Tensor | None, Tensor | None]:
        """Return the rows of `layer` to read, int64 [B, n], and how many of them count, int64 [B]; None: all it has."""
        if self._separate:
            return self._of_layer(index, layer) if self._chooses else (None, None)
        if self._plan.drops[index]:
            chosen, self._counts = self._pick(index, self._rows, self._counts, layer.width)
            self._rows = chosen if self._rows is None else self._rows.gather(1, chosen)
        return (None, None) if self._rows is None else (self._rows, self._counts)

    def _of_layer(self, index: int, layer: CascadeLayer) -> tuple[Tensor | None, Tensor | None]:
        """Choose among the rows that a layer still has and the layer before it kept."""
        if self._alive is None and not self._plan.drops[index]:
            return None, None
        assert layer.ids is not None
        own = layer.ids[:, : layer.width]
        if self._alive is None:
            rows, counts = self._pick(index, own, layer.counts, layer.width)
        else:
            inside = self._alive.gather(1, own) & (torch.arange(layer.width, device=own.device) < layer.counts[:, None])
            counts = inside.sum(1)
            left = ragged_topk(inside.to(torch.int64), layer.counts, counts, layer.width)
            chosen, counts = self._pick(index, own.gather(1, left), counts, layer.width)
            rows = left.gather(1, chosen)
        # Places behind the last one chosen name row 0, the first token, which is always protected.
        self._alive = torch.zeros_like(self._tokens.protected).scatter_(1, own.gather(1, rows), True)
        if not self._evicts:
            return rows, counts
        layer.keep(rows, counts)
        return None, None

    def _pick(self, index: int, ids: Tensor | None, counts: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Choose among the first counts[b] of the tokens `ids` [B, n] (None: 0 ... width - 1): slots, and how many."""
        keep = self._plan.keep[index]
        if self._separate:
            keep = torch.minimum(keep, counts)
        return pick(self._tokens, index, ids, counts, width, keep, self._plan.widths[index]), keep

    def heads(self, index: int) -> Tensor | None:
        """Return the heads that layer `index` computes, bool [B, H]; None: all."""
        scores = self._tokens.head_scores
        total, keep = scores.shape[1], self._plan.heads[index]
        if keep < (self._plan.heads[index - 1] if index else total):
            ranks = scores if self._heads is None else scores.masked_fill(~self._heads, -1)
            kept = torch.full_like(self._tokens.seen, keep)
            chosen = ragged_topk(ranks, torch.full_like(kept, total), kept, keep)
            self._heads = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, chosen, True)
        return self._heads


def pick(
    tokens: Tokens, index: int, ids: Tensor | None, counts: Tensor, width: int, keep: Tensor, kept_width: int
) -> Tensor:
    """Return the slots that layer `index` keeps by the selector that was asked for, int64 [B, kept_width], ascending.

    Parameters
    ----------
    ids: int64 [B, width], the tokens in the slots; None: 0 ... width - 1. counts, keep: int64 [B], how many of them
        count and how many are kept. kept_width: the largest `keep`.
    """
    selector = tokens.settings.selector
    if selector.name == "accumulated":
        return ragged_topk(tokens.ranks(ids, width), counts, keep, kept_width)
    positions = torch.arange(width, device=counts.device).expand(len(counts), -1) if ids is None else ids
    view = View(
        importance=tokens.importance(ids, width),
        positions=positions,
        counts=counts,
        keep=keep,
        protected=tokens.protected[:, :width] if ids is None else tokens.protected.gather(1, ids),
        layer=index,
        layers=tokens.settings.info.layers,
        width=kept_width,
    )
    return choose(selector, view)
