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

    def __init__(self, keep: Tensor, widths: list[int], drops: list[bool], heads: tuple[int, ...]) -> None:
        self.keep, self.widths, self.drops, self.heads = keep.unbind(), widths, drops, heads

    @classmethod
    def exact(cls, settings: Settings, seen: Tensor, prompt: Tensor) -> StepCounts:
        """Return the counts of sequences of `seen` tokens, int64 [B], `prompt` of them given."""
        keep = token_counts(settings, seen, prompt)
        numbers = [seen.tolist(), *keep.tolist()]
        widths = [max(layer, default=0) for layer in numbers[1:]]
        return cls(keep, widths, [after != before for before, after in pairwise(numbers)], settings.plan.heads)

    @classmethod
    def bounded(cls, settings: Settings, seen: Tensor, prompt: Tensor, capacity: int) -> StepCounts:
        """Return the same for any sequences of up to `capacity` tokens: nothing but `keep` depends on the tensors."""
        most = (min(capacity, settings.sink + settings.recent + 1), capacity)
        limits = [min(most[1], max(most[0], count)) for count in settings.plan.token_counts(capacity)]
        return cls(
            token_counts(settings, seen, prompt),
            limits,
            [after != before for before, after in pairwise([capacity, *limits])],
            settings.plan.heads,
        )
