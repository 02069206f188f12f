"""Why a layer is as fast as it is: both forms measured, beside the floors that bytes and arithmetic set."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn

from sparsecore.dispatch import ACCEPTED, LayerCost, predict
from sparsecore.machine import Limits, limits
from sparsecore.nn import SparseLinear
from sparsecore.patterns import Pattern
from sparsecore.prepacked import prepacked_linear
from sparsecore.samples import cold_copies, dense_layer, packed_copies
from sparsecore.timing import interleaved, median_ratio

__all__ = ["Explanation", "Point", "explain"]

COLD_TOKENS = 32
"""Up to this many tokens weights are timed as a model finds them: in no cache."""

_POINT_S, _LEAST, _MOST = 0.3, 5, 400


@dataclass(frozen=True, slots=True)
class Point:
    """One layer at one number of tokens. Times in seconds, medians of calls that take turns.

    ratio, prepacked_ratio: dense over packed, and dense with a weight laid out beforehand over packed (None where torch
        has none). predicted: what the calibration says of `ratio`; None where it says nothing.
    read_floor, compute_floor: what reading the packed weight at the machine's measured bandwidth, and the arithmetic on
        kept positions at its measured peak, take at least. call: what a call costs on a 16 x 16 weight.
    read_share: bytes of the packed weight over time, as a share of the measured bandwidth.
    """

    tokens: int
    dense: float
    prepacked: float | None
    packed: float
    ratio: float
    prepacked_ratio: float | None
    predicted: float | None
    read_floor: float
    compute_floor: float
    call: float
    read_share: float

    @property
    def bound(self) -> str:
        """What sets the floor: "bytes", "arithmetic" or "the call"."""
        floors = {"bytes": self.read_floor, "arithmetic": self.compute_floor, "the call": self.call}
        return max(floors, key=lambda name: floors[name])

    @property
    def floor(self) -> float:
        """Seconds that no kernel goes below: the larger floor, and the call."""
        return self.call + max(self.read_floor, self.compute_floor)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One layer [out_features, in_features] at several numbers of tokens."""

    shape: tuple[int, int]
    pattern: str
    density: float
    dtype: str
    dense_bytes: int
    packed_bytes: int
    limits: Limits
    points: tuple[Point, ...]

    @property
    def verdict(self) -> str:
        """What `sparsify` would do with it over these numbers of tokens, and why."""
        slowest = min(self.points, key=lambda point: point.ratio)
        if slowest.ratio >= ACCEPTED:
            return f"packed: never below {slowest.ratio:.2f} of dense"
        why = {
            "bytes": "the packed weight is not read fast enough",
            "arithmetic": "the arithmetic on kept positions takes longer than dense arithmetic on all",
            "the call": "the layer is so small that the call outweighs it",
        }[slowest.bound]
        return f"dense: packed reaches {slowest.ratio:.2f} at {slowest.tokens} tokens; {why}"


def explain(weight: Tensor, pattern: Pattern, tokens: Sequence[int]) -> Explanation:
    """Measure a dense weight [out_features, in_features] that satisfies `pattern` in both forms, at each of `tokens`.

    Raises PatternError where the weight does not satisfy the pattern.
    """
    dense = dense_layer(weight)
    packed = SparseLinear.from_dense(dense, pattern)
    reached = limits()
    with torch.no_grad():
        call = _call_seconds(pattern, weight.dtype)
        points = tuple(_point(dense, packed, count, call, reached) for count in sorted(set(tokens)))
    return Explanation(
        shape=(packed.out_features, packed.in_features),
        pattern=pattern.name,
        density=packed.density,
        dtype=str(weight.dtype).removeprefix("torch."),
        dense_bytes=weight.numel() * weight.element_size(),
        packed_bytes=packed.held_bytes,
        limits=reached,
        points=points,
    )


def _point(dense: nn.Linear, packed: SparseLinear, tokens: int, call: float, reached: Limits) -> Point:
    weight = dense.weight.detach()
    dense_bytes = weight.numel() * weight.element_size()
    turn_bytes = 2 * dense_bytes + packed.held_bytes
    count = cold_copies(turn_bytes) if tokens <= COLD_TOKENS else 1
    x = torch.ones(tokens, packed.in_features, dtype=weight.dtype)
    weights = [weight, *(weight.clone() for _ in range(count - 1))]
    calls: dict[str, Callable[[], object]] = {
        "dense": _in_turn([dense_layer(one) for one in weights], x),
        "packed": _in_turn(packed_copies(packed, count), x),
    }
    laid_out = [prepacked_linear(one, dense.bias, tokens) for one in weights]
    if laid_out[0] is not None:
        calls["prepacked"] = _in_turn([one for one in laid_out if one is not None], x)
    times = interleaved(calls, rounds=_MOST, least=_LEAST, budget_s=_POINT_S)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    shape, dtype = (packed.out_features, packed.in_features), weight.dtype
    cost = LayerCost(packed.pattern, packed.density, shape, dtype, dense_bytes, packed.held_bytes)
    predicted = predict(cost, (tokens,))[0]
    kept = packed.density * weight.numel()
    return Point(
        tokens=tokens,
        dense=seconds["dense"],
        prepacked=seconds.get("prepacked"),
        packed=seconds["packed"],
        ratio=median_ratio(times["dense"], times["packed"]),
        prepacked_ratio=median_ratio(times["prepacked"], times["packed"]) if "prepacked" in times else None,
        predicted=None if predicted.kind == "unknown" else predicted.ratio,
        read_floor=packed.held_bytes / reached.read,
        compute_floor=2 * tokens * kept / reached.compute(dtype),
        call=call,
        read_share=packed.held_bytes / seconds["packed"] / reached.read,
    )


def _in_turn(layers: Sequence[Callable[[Tensor], object]], x: Tensor) -> Callable[[], object]:
    turns = cycle(layers)
    return lambda: next(turns)(x)


def _call_seconds(pattern: Pattern, dtype: torch.dtype) -> float:
    """Seconds of a packed layer's call on a weight without a kept position: checks, operator, threads, no kernel."""
    tiny = SparseLinear.from_dense(dense_layer(torch.zeros(16, 16, dtype=dtype)), pattern)
    x = torch.ones(1, 16, dtype=dtype)
    return statistics.median(interleaved({"tiny": lambda: tiny(x)}, rounds=200, least=50, budget_s=0.004)["tiny"])
