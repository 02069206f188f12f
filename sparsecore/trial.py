"""Times layers in both forms at the token counts that a model really sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.dispatch import ACCEPTED, LayerCost, Ratio, expansion_seconds, interleaved_ratio, predict
from sparsecore.inputs import Inputs, batches, evaluating

__all__ = ["Pair", "observed_tokens", "time_pairs"]

_BUDGET_S = 20.0
_LAYER_S = 0.02
_ROTATED = 8
# An answer this close to the one that decides is asked for again, for this many times as long.
_CLOSE, _CLOSE_TURNS = 0.05, 3


@dataclass(frozen=True, slots=True)
class Pair:
    """One layer in both forms, each called with x [tokens, in_features]."""

    cost: LayerCost
    dense: Callable[[Tensor], Tensor]
    packed: Callable[[Tensor], Tensor]

    @property
    def key(self) -> Hashable:
        """Layers with equal keys are timed together: same place, sizes, pattern and, within 1/32, density."""
        cost = self.cost
        return cost.device, cost.shape, cost.dtype, cost.pattern, round(cost.density * 32)


def observed_tokens(model: nn.Module, inputs: Inputs, modules: Iterable[nn.Module]) -> dict[int, set[int]]:
    """Run `model` once on every batch of `inputs`; return the token counts that each of `modules` (by id) was given.

    A module with a second argument of expert numbers [tokens, k] counts the tokens of each expert.
    """
    seen: dict[int, set[int]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        values = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        routing = next((value for value in values[1:] if not value.is_floating_point()), None)
        counts = [math.prod(values[0].shape[:-1])] if routing is None else torch.bincount(routing.flatten()).tolist()
        seen.setdefault(id(module), set()).update(count for count in counts if count)

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in modules]
    try:
        with evaluating(model):
            for args, kwargs in batches(inputs):
                model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def time_pairs(
    pairs: Mapping[Hashable, list[Pair]], tokens: Mapping[Hashable, Iterable[int]]
) -> dict[Hashable, tuple[Ratio, ...]]:
    """Measure the ratio of each group of pairs at its token counts, the smallest counts first.

    A group gets 20 ms for each of its layers, and three calls of each form at least; a count whose answer is close to
    `ACCEPTED` gets as much again, three times over. What is left after 20 s is predicted, and marked so.
    """
    counts = {key: sorted(tokens[key]) for key in pairs}
    end = time.perf_counter() + _BUDGET_S
    ratios: dict[Hashable, list[Ratio]] = {key: [] for key in pairs}
    with torch.no_grad():
        for count in sorted({t for group in counts.values() for t in group}):
            for key, group in pairs.items():
                if count in counts[key]:
                    share = _LAYER_S * len(group) / len(counts[key])
                    ratios[key].append(_ratio(group[:_ROTATED], count, share, time.perf_counter() < end))
    return {key: tuple(found) for key, found in ratios.items()}


def _ratio(group: list[Pair], tokens: int, seconds: float, in_time: bool) -> Ratio:
    cost = group[0].cost
    if not in_time:
        return predict(cost, (tokens,))[0]
    x = torch.ones(tokens, cost.shape[1], dtype=cost.dtype, device=cost.device)
    dense = [lambda pair=pair: pair.dense(x) for pair in group]
    packed = [lambda pair=pair: pair.packed(x) for pair in group]
    ratio = interleaved_ratio(dense, packed, seconds, cost.device)
    if abs(ratio / ACCEPTED - 1) < _CLOSE:
        ratio = interleaved_ratio(dense, packed, _CLOSE_TURNS * seconds, cost.device)
    return Ratio(tokens, ratio, "measured", expansion_seconds(cost, tokens))
