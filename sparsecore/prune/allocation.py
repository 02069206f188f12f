"""How many units each layer gives up, and which: per layer or over all layers together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["dropped_count", "keep_global", "keep_per_layer", "keep_top"]


def dropped_count(units: int, sparsity: float) -> int:
    """Units to drop: sparsity * units to the nearest integer, a half rounded up."""
    return min(units, math.floor(sparsity * units + 0.5))


def keep_top(scores: Tensor, keep: int) -> Tensor:
    """Bool [units]: exactly the `keep` highest of `scores` [units], equal ones from the lowest index on."""
    units = scores.numel()
    if keep <= 0 or keep >= units:
        return torch.full_like(scores, keep > 0, dtype=torch.bool)
    # Selecting the threshold and counting ties is linear; a stable sort of all weights of a model is not.
    threshold = scores.kthvalue(units - keep + 1).values
    above = scores > threshold
    tied = scores == threshold
    return above | (tied & (tied.cumsum(0) <= keep - above.sum()))


def keep_per_layer(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Keep masks where every layer drops the same share of its units."""
    return [keep_top(layer, layer.numel() - dropped_count(layer.numel(), sparsity)) for layer in scores]


def keep_global(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Keep masks where the units of all layers compete, and the share holds over the model.

    Before they compete, the scores of a layer are divided by their root mean square over that layer: a layer whose
    weights are all small is not wiped out for its scale. Ties go to the earlier layer.
    """
    if not scores:
        return []
    device = scores[0].device
    ranked = torch.cat([_normalised(layer).to(device) for layer in scores])
    keep = keep_top(ranked, ranked.numel() - dropped_count(ranked.numel(), sparsity))
    parts = torch.split(keep, [layer.numel() for layer in scores])
    return [part.to(layer.device) for part, layer in zip(parts, scores, strict=True)]


def _normalised(scores: Tensor) -> Tensor:
    finite = scores[torch.isfinite(scores)]
    scale = finite.double().square().mean().sqrt().item() if finite.numel() else 0.0
    return scores / scale if scale > 0 else scores
