"""Diversity first, attention later. Source: Balanced Token Pruning (NeurIPS 2025, arXiv 2505.22038).

What a layer removes is missing in all that follow, so early layers keep tokens that differ, whatever looks at them now;
late layers keep what their own output needs. Of the budget of a layer a share is filled by the attention that tokens
receive in it, the rest by max-min diversity around those; the share rises with depth. Where to prune is found on
calibration inputs: `sparsecore.cascade.calibrate.stages`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.cascade.selectors.diversity import spread_out
from sparsecore.cascade.selectors.view import Selector, View
from sparsecore.errors import InvalidValueError

__all__ = ["Staged"]


class Staged(Selector):
    """Fills the budget by attention for a share that rises from `early` to `late`, and by diversity for the rest.

    Raises
    ------
    InvalidValueError: shares outside [0, 1].
    """

    name = "staged"
    needs = frozenset({"probabilities", "hidden"})

    def __init__(self, early: float = 0.25, late: float = 0.9) -> None:
        if not (0 <= early <= 1 and 0 <= late <= 1):
            raise InvalidValueError(f"the shares are {early} and {late}", where="Staged", expected="numbers in [0, 1]")
        self.early, self.late = early, late

    def rank(self, view: View) -> Tensor:
        """Return the order of choice, int64: attention first, then diversity."""
        assert view.probabilities is not None
        assert view.hidden is not None
        valid, protected = view.valid, view.protected & view.valid
        received = (view.probabilities.float() * valid[:, None, :, None]).sum(dim=(1, 2))
        received = received.masked_fill(protected, torch.inf).masked_fill(~valid, -torch.inf)
        order = received.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        depth = view.layer / max(1, view.layers - 2)  # nothing is chosen after the last layer
        share = self.early + (self.late - self.early) * min(1.0, depth)
        by_attention = torch.maximum((view.keep * share).floor().to(torch.int64), protected.sum(1))
        chosen = valid & (order < by_attention[:, None])
        spread = spread_out(view.hidden, valid, chosen, view.width)
        size = valid.shape[1]
        return torch.where(chosen, 2 * size - order, spread)
