"""Which form of a layer is faster: predicted from a calibration of the machine, or measured on the layer itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import torch

from sparsecore.calibration import applicable
from sparsecore.patterns import Pattern
from sparsecore.timing import interleaved, median_ratio

__all__ = ["ACCEPTED", "LayerCost", "Ratio", "interleaved_ratio", "predict", "token_grid"]

ACCEPTED = 0.97
"""Smallest speed of the packed form, as a share of the dense form, at which a layer is packed."""

_PAIRS = (3, 400)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the dense form over time of the packed form at one number of tokens: above 1, packed is faster.

    "unknown": nothing is known to predict it from; the ratio is 0.
    """

    tokens: int
    ratio: float
    kind: Literal["measured", "predicted", "unknown"]


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What the model needs to know of one layer: its sizes in both forms.

    dtype: of activations and dense weight. packed_dtype: of the packed values, where that is another.
    """

    pattern: Pattern
    density: float
    shape: tuple[int, int]
    dtype: torch.dtype
    dense_bytes: int
    packed_bytes: int
    packed_dtype: torch.dtype | None = None


def token_grid(tokens: tuple[int, int], factor: int) -> tuple[int, ...]:
    """Token counts from the lowest to the highest of the range `tokens`, each `factor` times the one before."""
    low, high = tokens
    grid = []
    while low < high:
        grid.append(low)
        low *= factor
    return (*grid, high)


def predict(cost: LayerCost, tokens: Sequence[int]) -> tuple[Ratio, ...]:
    """Ratio at each number of tokens by the formula of `sparsecore.calibration`, with torch's present threads.

    Without a calibration for this instruction set, pattern or type the ratios are 0 and of kind "unknown".
    Raises CorruptFileError where the user's calibration is damaged.
    """
    found = applicable()
    dense = None if found is None else found.dense(cost.dtype)
    packed = None if found is None else found.packed(cost.pattern, cost.density, cost.packed_dtype or cost.dtype)
    if found is None or dense is None or packed is None:
        return tuple(Ratio(t, 0.0, "unknown") for t in tokens)
    positions, trust = cost.shape[0] * cost.shape[1], found.trust

    def ratio(count: int) -> float:
        slow = dense.seconds(count, positions, cost.dense_bytes)
        return trust * slow / packed.seconds(count, positions, cost.packed_bytes)

    return tuple(Ratio(t, ratio(t), "predicted") for t in tokens)


def interleaved_ratio(
    dense: Sequence[Callable[[], object]], packed: Sequence[Callable[[], object]], seconds: float
) -> float:
    """Median of time(dense) / time(packed) over pairs that take turns for about `seconds`, at least three of them.

    The sequences hold the same layers in both forms; going through several keeps weights as cold as in a model.
    """
    calls = {"dense": _in_turn(dense), "packed": _in_turn(packed)}
    least, most = _PAIRS
    times = interleaved(calls, rounds=most, least=least, budget_s=seconds)
    return median_ratio(times["dense"], times["packed"])


def _in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    turns = cycle(calls)

    def call() -> object:
        return next(turns)()

    return call
