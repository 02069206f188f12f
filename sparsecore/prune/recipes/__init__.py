"""Pruning methods by name; one small file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from sparsecore.patterns import Pattern
from sparsecore.prune.recipes.magnitude import magnitude
from sparsecore.prune.recipes.shared_columns import magnitude_vnm

__all__ = ["RECIPES", "Recipe", "magnitude", "magnitude_vnm"]

Recipe = Callable[[Sequence[Tensor], Pattern, float, str], list[Tensor]]
"""(weights [out, in], pattern, sparsity, scope) -> keep masks, bool, of the same shapes."""

RECIPES: dict[str, Recipe] = {"magnitude": magnitude, "magnitude-vnm": magnitude_vnm}
