"""Which form of a layer is faster: a cost model with a short calibration, and a measurement of both forms.

Cost of one call of a linear layer with T tokens, in one form (dense or packed):

    time(T) = call + max(bytes / bandwidth, operations(T) / rate(T)),    operations(T) = 2 T kept

    bytes      what the form holds for the weight: every call reads it once
    kept       multiply-adds a token: all positions (dense) or the kept ones (packed); 2 operations each
    bandwidth  bytes/s of a read of 64 MiB on this machine, with torch's threads
    call       seconds of a call on a 16 x 16 weight with one token
    rate(T)    operations/s reached with a 1024 x 1024 weight of the same pattern, density and element type, at 1, 8,
               64 and 512 tokens; between them linear in log T, beyond them constant

This is the roofline of Williams, Waterman and Patterson (CACM 2009) with the peak replaced by what the kernel reaches
and a fixed cost a call. Calibration takes a fraction of a second a pattern and is kept for the process.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor, nn

from sparsecore.native import runtime_isa
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern
from sparsecore.timing import interleaved, median_ratio

__all__ = [
    "ACCEPTED",
    "FormSpeed",
    "LayerCost",
    "Ratio",
    "calibrate",
    "interleaved_ratio",
    "predict",
    "read_bandwidth",
    "token_grid",
]

ACCEPTED = 0.97
"""Smallest speed of the packed form, as a share of the dense form, at which a layer is packed."""

_REFERENCE = 1024
_TOKENS = (1, 8, 64, 512)
_SLOW_CALL_S = 0.02
_DENSITY_STEP = 1 / 32
_PAIRS = (5, 400)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the dense form over time of the packed form at one number of tokens: above 1, packed is faster."""

    tokens: int
    ratio: float
    kind: Literal["measured", "predicted"]


@dataclass(frozen=True, slots=True)
class FormSpeed:
    """Calibrated speed of one form: seconds a call, and (tokens, operations/s) in ascending order of tokens."""

    call_s: float
    rates: tuple[tuple[int, float], ...]

    def rate(self, tokens: int) -> float:
        """Operations/s at `tokens`, linear in log tokens between calibrated points and constant beyond them."""
        points = [t for t, _ in self.rates]
        right = bisect_right(points, tokens)
        if right in (0, len(points)):
            return self.rates[min(right, len(points) - 1)][1]
        (t0, r0), (t1, r1) = self.rates[right - 1], self.rates[right]
        return r0 + (r1 - r0) * math.log(tokens / t0) / math.log(t1 / t0)

    def seconds(self, tokens: int, kept: int, held_bytes: int, bandwidth: float) -> float:
        """Time of one call by the formula above; `kept` multiply-adds a token, `held_bytes` read at `bandwidth`."""
        return self.call_s + max(held_bytes / bandwidth, 2 * tokens * kept / self.rate(tokens))


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What the model needs to know of one layer: its sizes in both forms."""

    pattern: Pattern
    density: float
    shape: tuple[int, int]
    dtype: torch.dtype
    dense_bytes: int
    packed_bytes: int


def token_grid(tokens: tuple[int, int], factor: int) -> tuple[int, ...]:
    """Token counts from the lowest to the highest of the range `tokens`, each `factor` times the one before."""
    low, high = tokens
    grid = []
    while low < high:
        grid.append(low)
        low *= factor
    return (*grid, high)


def predict(cost: LayerCost, tokens: Sequence[int]) -> tuple[Ratio, ...]:
    """Predicted ratio at each number of tokens, on this machine with torch's present number of threads."""
    threads = torch.get_num_threads()
    bucket = round(cost.density / _DENSITY_STEP) * _DENSITY_STEP or _DENSITY_STEP
    dense, packed = calibrate(cost.pattern, bucket, cost.dtype, threads, runtime_isa())
    bandwidth = read_bandwidth(threads)
    positions = cost.shape[0] * cost.shape[1]
    return tuple(
        Ratio(
            t,
            dense.seconds(t, positions, cost.dense_bytes, bandwidth)
            / packed.seconds(t, round(positions * cost.density), cost.packed_bytes, bandwidth),
            "predicted",
        )
        for t in tokens
    )


@cache
def read_bandwidth(threads: int) -> float:
    """Bytes/s of a read of 64 MiB: the best of several sums. `threads` only keys the result."""
    block = torch.ones(16 * 2**20)
    return block.numel() * block.element_size() / _best_seconds(block.sum)


@cache
def calibrate(
    pattern: Pattern, density: float, dtype: torch.dtype, threads: int, isa: str
) -> tuple[FormSpeed, FormSpeed]:
    """Measure (dense, packed) on weights of the given pattern, density and type. `threads` and `isa` key the result."""
    weight = _reference_weight(pattern, density, dtype)
    large, tiny = _linear(weight), _linear(torch.zeros(16, 16, dtype=dtype))
    packed, tiny_packed = SparseLinear.from_dense(large, pattern), SparseLinear.from_dense(tiny, pattern)
    kept = round(density * weight.numel())
    with torch.no_grad():
        return _speed(large, tiny, weight.numel(), dtype), _speed(packed, tiny_packed, kept, dtype)


def interleaved_ratio(
    dense: Sequence[Callable[[], object]], packed: Sequence[Callable[[], object]], seconds: float
) -> float:
    """Median of time(dense) / time(packed) over pairs that take turns for about `seconds`, at least five of them.

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


def _linear(weight: Tensor) -> nn.Linear:
    """nn.Linear with `weight` and a bias of zeros; made without random numbers, so the caller's generator stays."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype), requires_grad=False)
    return layer


def _speed(large: nn.Module, tiny: nn.Module, kept: int, dtype: torch.dtype) -> FormSpeed:
    """Speed of whole modules, so that what Python adds to a call is in `call_s`."""
    x = torch.zeros(1, 16, dtype=dtype)
    call_s = _best_seconds(lambda: tiny(x))
    rates: list[tuple[int, float]] = []
    for tokens in _TOKENS:
        x = torch.ones(tokens, _REFERENCE, dtype=dtype)
        seconds = _best_seconds(lambda x=x: large(x))  # type: ignore[misc]
        rates.append((tokens, 2 * tokens * kept / max(seconds - call_s, 1e-9)))
        if seconds > _SLOW_CALL_S:
            break
    return FormSpeed(call_s, tuple(rates))


def _reference_weight(pattern: Pattern, density: float, dtype: torch.dtype) -> Tensor:
    """Random weight that satisfies `pattern`; its density is that of the pattern or, where that is free, `density`."""
    size = _REFERENCE
    generator = torch.Generator().manual_seed(0)
    if isinstance(pattern, NM):
        groups = torch.rand(size, -(-size // pattern.m), pattern.m, generator=generator)
        keep = (groups.argsort(-1).argsort(-1) < pattern.n).reshape(size, -1)[:, :size]
    else:
        rows, cols = pattern.sizes if isinstance(pattern, Block) else (1, 1)
        blocks = torch.rand(-(-size // rows), -(-size // cols), generator=generator) < density
        keep = blocks.repeat_interleave(min(rows, size), 0)[:size].repeat_interleave(min(cols, size), 1)[:, :size]
    values = torch.rand(size, size, generator=generator) + 0.5
    return (values * keep).to(dtype)


def _best_seconds(call: Callable[[], object]) -> float:
    """Shortest of at least five calls and of as many as fit into 20 ms: what the machine does when left alone."""
    call()
    best, calls, end = math.inf, 0, time.perf_counter() + _SLOW_CALL_S
    while calls < _PAIRS[0] or (time.perf_counter() < end and calls < _PAIRS[1]):
        start = time.perf_counter()
        call()
        best, calls = min(best, time.perf_counter() - start), calls + 1
    return best
