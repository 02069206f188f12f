"""What a selector sees of one layer, and how its ranking becomes the slots that go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sparsecore.ops import ragged_topk

__all__ = ["Selector", "View", "choose"]


@dataclass(frozen=True)
class View:
    """The tokens of B sequences after one layer (or one decoding step of one layer), in n slots.

    The first `counts[b]` slots of sequence b hold tokens in ascending order of position; the others hold padding, and
    whatever stands there means nothing. Tensors after `width` are given only to selectors whose `needs` name them.

    Parameters
    ----------
    importance: int64 [B, n], attention received so far, as sparsecore.cascade.importance ranks it; higher stays.
    positions: int64 [B, n], place of a token in its own sequence, padding not counted: 0 for the first.
    counts: int64 [B], tokens of each sequence. keep: int64 [B], how many go on; at least the protected ones.
    protected: bool [B, n], tokens that always go on.
    layer: the layer that has just run; layers: how many there are.
    width: the largest number in `keep`: the number of slots afterwards.
    memory: fp32 [B, n], what the selector's own `observe` returned after the layer before, moved along with the tokens;
        None after the first layer. `rank` sees it as `observe` does: without this layer.
    probabilities: fp32 [B, h, n, n], attention of the layer's kept heads before local value pruning (query, key).
    hidden: [B, n, C], output of the layer. keys, values: [B, Hkv, n, D], of the layer's attention.
    """

    importance: Tensor
    positions: Tensor
    counts: Tensor
    keep: Tensor
    protected: Tensor
    layer: int
    layers: int
    width: int
    memory: Tensor | None = None
    probabilities: Tensor | None = None
    hidden: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """Return which slots hold a token, bool [B, n]."""
        return torch.arange(self.importance.shape[1], device=self.counts.device) < self.counts[:, None]


@runtime_checkable
class Selector(Protocol):
    """Decides which tokens go on. Equal views give equal answers, and a sequence gets in a batch what it gets alone.

    A class that derives from this one needs `rank` only.

    Attributes
    ----------
    name: as registered. needs: which optional tensors of a View it reads.
    generates: whether it also ranks the rows of a cache while tokens are generated, where only `importance` and
        `positions` are at hand.
    """

    name: str
    needs: frozenset[str] = frozenset()
    generates: bool = False

    def observe(self, view: View) -> Tensor | None:
        """Return what to remember of each token, fp32 [B, n], after every layer; None: nothing."""
        return None

    def rank(self, view: View) -> Tensor:
        """Return a rank for each slot, int64 or fp32 [B, n]: the `keep[b]` highest go on, ties to the lower slot."""
        ...


def choose(selector: Selector, view: View) -> Tensor:
    """Return the slots that go on, int64 [B, width], ascending, padded with 0; protected tokens always go on."""
    if view.importance.shape[1] == 0:
        return view.counts.new_zeros((len(view.counts), view.width))
    rank = selector.rank(view)
    highest = torch.iinfo(rank.dtype).max if rank.dtype == torch.int64 else torch.inf
    return ragged_topk(rank.masked_fill(view.protected, highest), view.counts, view.keep, view.width)
