"""Magnitude pruning: the smallest weights go.

Sources: S. Han et al., NeurIPS 2015 (unstructured); A. Mishra et al., "Accelerating Sparse Deep Neural Networks",
arXiv:2104.08378, 2021 (N:M by magnitude in each group).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparsecore.patterns import NM, Pattern
from sparsecore.prune import criteria
from sparsecore.prune.allocation import keep_global, keep_per_layer
from sparsecore.prune.units import expand, keep_of_groups, unit_scores

__all__ = ["magnitude"]


def magnitude(weights: Sequence[Tensor], pattern: Pattern, sparsity: float, scope: str) -> list[Tensor]:
    """Keep masks, bool [out, in] each, for `weights`; see `sparsecore.prune.one_shot`."""
    if isinstance(pattern, NM):
        return [keep_of_groups(criteria.magnitude(weight), pattern) for weight in weights]
    scores = [unit_scores(criteria.magnitude(weight), pattern) for weight in weights]
    kept = keep_global(scores, sparsity) if scope == "global" else keep_per_layer(scores, sparsity)
    return [
        expand(keep, (weight.shape[0], weight.shape[1]), pattern) for keep, weight in zip(kept, weights, strict=True)
    ]
