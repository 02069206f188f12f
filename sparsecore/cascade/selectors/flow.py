"""Cumulative information flow through a relay token. Source: FlowCut (NeurIPS 2025, arXiv 2505.19536).

The first token ([CLS]) collects what all tokens say. How much of it comes from a token is (relation + semantics) times
the L1 norm of its value, averaged over heads: relation is the relay's attention to it, semantics the softmax over
tokens of v_relay . v / sqrt(D). One layer alone misleads, so the criterion is a running mean over the layers so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.cascade.selectors.view import Selector, View
from sparsecore.errors import InvalidValueError

__all__ = ["Flow"]


class Flow(Selector):
    """Ranks tokens by the running mean of what flows from them to the first token of their sequence.

    Parameters
    ----------
    momentum: the share of the mean so far that a layer leaves, in [0, 1).

    Raises
    ------
    InvalidValueError: `momentum` out of range.
    """

    name = "flow"
    needs = frozenset({"probabilities", "values"})

    def __init__(self, momentum: float = 0.5) -> None:
        if not 0 <= momentum < 1:
            raise InvalidValueError(f"momentum is {momentum}", where="Flow", expected="a number in [0, 1)")
        self.momentum = momentum

    def observe(self, view: View) -> Tensor:
        """Return the running mean after this layer, fp32 [B, n]; each layer is scaled to the sum 1."""
        assert view.probabilities is not None
        assert view.values is not None
        valid, values = view.valid, view.values.float()
        relation = view.probabilities[:, :, 0].float().mean(1) * valid
        relation = relation / relation.sum(1, keepdim=True).clamp_min(1e-20)
        likeness = (values[:, :, :1] @ values.transpose(2, 3)).squeeze(2) * values.shape[-1] ** -0.5
        lowest = torch.finfo(torch.float32).min
        semantics = likeness.masked_fill(~valid[:, None], lowest).softmax(-1).mean(1)
        flow: Tensor = (relation + semantics) * values.mean(1).abs().sum(-1) * valid
        flow = flow / flow.sum(1, keepdim=True).clamp_min(1e-20)
        return flow if view.memory is None else torch.lerp(flow, view.memory, self.momentum)

    def rank(self, view: View) -> Tensor:
        """Return the running mean with this layer in it."""
        return self.observe(view)
