"""Sinks, heavy hitters and recent tokens.

Sources: StreamingLLM (ICLR 2024, arXiv 2309.17453) for the first tokens, which attention rests on whatever they say;
H2O (NeurIPS 2023, arXiv 2306.14048) for the rest: half of the budget goes to the last tokens, half to those that
received most attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.cascade.selectors.view import Selector, View
from sparsecore.errors import InvalidValueError

__all__ = ["Heavy"]

_ALWAYS = 1 << 61  # above every importance; below it plus a position there is still room in an int64


class Heavy(Selector):
    """Keeps the first `sink` tokens, then the last ones up to `recent` of the budget, then the most looked at.

    Parameters
    ----------
    sink: number of first tokens. recent: share of the budget for the last tokens, in [0, 1].

    Raises
    ------
    InvalidValueError: a negative number of sinks, or a share out of range.
    """

    name = "heavy"
    generates = True

    def __init__(self, sink: int = 4, recent: float = 0.5) -> None:
        if isinstance(sink, bool) or not isinstance(sink, int) or sink < 0:
            raise InvalidValueError(f"sink is {sink!r}", where="Heavy", expected="a count of tokens, at least 0")
        if not 0 <= recent <= 1:
            raise InvalidValueError(f"recent is {recent}", where="Heavy", expected="a share in [0, 1]")
        self.sink, self.recent = sink, recent

    def rank(self, view: View) -> Tensor:
        """Return the importance, int64, raised for sinks (most) and for recent tokens (the last most)."""
        slots = torch.arange(view.importance.shape[1], device=view.counts.device)
        window = (view.keep * self.recent).floor().to(torch.int64)
        recent = slots >= (view.counts - window)[:, None]
        rank = torch.where(recent, _ALWAYS + view.positions, view.importance)
        return torch.where(view.positions < self.sink, 2 * _ALWAYS - view.positions, rank)
