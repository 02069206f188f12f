"""Which form of a layer is faster: predicted from a calibration of the machine, or measured on the layer itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import torch

from sparsecore.backends.cuda.routes import route
from sparsecore.calibration import Calibration, applicable
from sparsecore.devices import indexed
from sparsecore.gpu import Gpu, describe_gpu
from sparsecore.gpu_model import GpuModel
from sparsecore.patterns import Pattern
from sparsecore.timing import clock_of, interleaved, median_ratio

__all__ = [
    "ACCEPTED",
    "LayerCost",
    "Ratio",
    "expansion_seconds",
    "interleaved_ratio",
    "predict",
    "speeds",
    "token_grid",
]

ACCEPTED = 0.97
"""Smallest speed of the packed form, as a share of the dense form, at which a layer is packed."""

_PAIRS = (3, 400)
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the dense form over time of the packed form at one number of tokens: above 1, packed is faster.

    "unknown": nothing is known to predict it from; the ratio is 0. expansion_s: seconds of the packed form's time that
    go into writing the weight out, predicted; 0 where it is multiplied as it is.
    """

    tokens: int
    ratio: float
    kind: Literal["measured", "predicted", "unknown"]
    expansion_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What the model needs to know of one layer: its sizes in both forms.

    dtype: of activations and dense weight. packed_dtype: of the packed values, where that is another. device: where the
    layer is. layout: of the resident weight, where it is not the one that most weights of the pattern get.
    """

    pattern: Pattern
    density: float
    shape: tuple[int, int]
    dtype: torch.dtype
    dense_bytes: int
    packed_bytes: int
    packed_dtype: torch.dtype | None = None
    device: torch.device = _CPU
    layout: int = 0

    @property
    def values(self) -> torch.dtype:
        """Element type of the packed values."""
        return self.packed_dtype or self.dtype


def speeds(device: torch.device) -> Calibration | GpuModel | None:
    """What is known of the speed of layers on `device`: a calibration; of a GPU without one a model; None on others.

    Raises CorruptFileError where the user's calibration is damaged.
    """
    if device.type == "cpu":
        return applicable()
    if device.type != "cuda":
        return None
    gpu = _gpu(device)
    return applicable(gpu) or GpuModel(gpu)


def _gpu(device: torch.device) -> Gpu:
    return describe_gpu(indexed(device).index)


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
    found = speeds(cost.device)
    dense = None if found is None else found.dense(cost.dtype)
    packed = None if found is None else found.packed(cost.pattern, cost.density, cost.values, cost.layout)
    if found is None or dense is None or packed is None:
        return tuple(Ratio(t, 0.0, "unknown") for t in tokens)
    positions, trust = cost.shape[0] * cost.shape[1], found.trust

    def ratio(count: int) -> float:
        slow = dense.seconds(count, positions, cost.dense_bytes)
        return trust * slow / packed.seconds(count, positions, cost.packed_bytes)

    return tuple(Ratio(t, ratio(t), "predicted", expansion_seconds(cost, t)) for t in tokens)


def expansion_seconds(cost: LayerCost, tokens: int) -> float:
    """Seconds of a call that go into writing the weight out on a GPU: its packed and its dense bytes over bandwidth."""
    if cost.device.type != "cuda":
        return 0.0
    if route(cost.pattern, cost.values, tokens, cost.layout, _gpu(cost.device).capability) != "expand":
        return 0.0
    found = speeds(cost.device)
    dense = None if found is None else found.dense(cost.dtype)
    return 0.0 if dense is None else (cost.packed_bytes + cost.dense_bytes) / dense.stream


def interleaved_ratio(
    dense: Sequence[Callable[[], object]],
    packed: Sequence[Callable[[], object]],
    seconds: float,
    device: torch.device = _CPU,
) -> float:
    """Median of time(dense) / time(packed) over pairs that take turns for about `seconds`, at least three of them.

    The sequences hold the same layers in both forms; going through several keeps weights as cold as in a model.
    """
    calls = {"dense": _in_turn(dense), "packed": _in_turn(packed)}
    least, most = _PAIRS
    times = interleaved(calls, rounds=most, least=least, budget_s=seconds, clock=clock_of(device))
    return median_ratio(times["dense"], times["packed"])


def _in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    turns = cycle(calls)

    def call() -> object:
        return next(turns)()

    return call
