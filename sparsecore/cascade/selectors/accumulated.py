"""The tokens that received most attention so far. Source: SpAtten (HPCA 2021, arXiv 2012.09852), section III-A."""

from __future__ import annotations

from torch import Tensor

from sparsecore.cascade.selectors.view import Selector, View

__all__ = ["Accumulated"]


class Accumulated(Selector):
    """Ranks tokens by attention probability summed over queries, heads and layers (and over steps in generation)."""

    name = "accumulated"
    generates = True

    def rank(self, view: View) -> Tensor:
        """Return the accumulated importance."""
        return view.importance
