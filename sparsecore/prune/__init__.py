"""Pruning: which weights of a model become zero, so that there is something sparse to run.

    summary = sc.prune.one_shot(model, "magnitude", pattern="2:4")

A method is put together from parts: a score for each weight (criteria), what is kept or dropped together (units) and
how many units each layer gives up (allocation). Each file in `recipes` is one method.
"""

from __future__ import annotations

from sparsecore.prune.one_shot import Scope, one_shot, prune_tensors
from sparsecore.prune.recipes import RECIPES
from sparsecore.prune.summary import LayerSummary, PruneSummary, SkippedLayer

__all__ = ["LayerSummary", "PruneSummary", "RECIPES", "Scope", "SkippedLayer", "one_shot", "prune_tensors"]
