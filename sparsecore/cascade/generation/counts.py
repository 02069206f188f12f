"""How many tokens and heads each layer reads in one decoding step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from sparsecore.cascade.generation.settings import Settings

__all__ = ["StepCounts", "token_counts"]


def token_counts(settings: Settings, seen: Tensor, prompt: Tensor) -> Tensor:
    """Return how many of `seen` tokens each layer reads, int64 [layers, B]: no fewer than are protected.

    Parameters
    ----------
    seen, prompt: int64 [B], tokens of each sequence so far, and those of its prompt.
    """
    sink, recent = settings.sink, settings.recent
    apart = (prompt > sink) & (prompt <= seen - recent)  # the last token of the prompt is in neither window
    protected = torch.minimum(seen, seen.clamp(max=sink) + recent + apart)
    return torch.maximum(settings.plan.counts(seen), protected)


class StepCounts:
    """The counts of one step.

    Attributes
    ----------
    keep: int64 [layers, B], tokens that a layer reads. widths: the most of any sequence, by layer.
    drops: whether a layer reads fewer tokens than the layer before it (the first: than there are), for any sequence.
    heads: heads that a layer computes, by layer.
    """

    def __init__(self, settings: Settings, seen: Tensor, prompt: Tensor) -> None:
        keep = token_counts(settings, seen, prompt)
        numbers = [seen.tolist(), *keep.tolist()]
        self.keep = keep.unbind()
        self.widths = [max(layer, default=0) for layer in numbers[1:]]
        self.drops = [after != before for before, after in pairwise(numbers)]
        self.heads = settings.plan.heads
