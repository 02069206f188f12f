"""Measures the calibration of this machine: both forms of one reference layer, in turns, for every kind of pattern."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import torch
from torch import Tensor, nn

import sparsecore
from sparsecore.calibration import DENSE, Calibration, Entry, FormSpeed
from sparsecore.machine import describe
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.samples import cold_copies, dense_layer, packed_copies, random_weight
from sparsecore.timing import interleaved, median_ratio

__all__ = ["CASES", "DTYPES", "calibrate"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
"""Types of packed values; int8 is measured with activations in fp32 against a dense fp32 layer."""
# (pattern, densities); the first of each family is the one whose reading of cold weights is timed. 3:8 and block 4x4
# have no kernel of their own and stand for all that have none.
CASES: tuple[tuple[Pattern, tuple[float, ...]], ...] = (
    *((NM(n, m), (n / m,)) for n, m in ((2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 16), (3, 8))),
    (Unstructured(), (0.5, 0.25, 0.1, 0.05)),
    *((Block(r, c), (0.5, 0.1)) for r, c in ((32, 32), (16, 16), (64, 64), (16, 1), (1, 16), (4, 1), (4, 4))),
)
_SHAPE = (1024, 1536)
_TOKENS = (1, 8, 32, 128, 512)
_POINT_S, _STREAM_S, _LEAST, _SLOW_S = 0.015, 0.06, 3, 0.1

Progress = Callable[[str], None]
Cases = Sequence[tuple[Pattern, tuple[float, ...]]]


def calibrate(
    progress: Progress = lambda text: None, cases: Cases | None = None, dtypes: Sequence[torch.dtype] | None = None
) -> Calibration:
    """Measure this machine with the instruction set and the number of threads in use; about half a minute.

    `progress` is called with the name of each case before it is measured. cases, dtypes: all, or fewer of them.
    """
    machine = describe()
    entries: list[Entry] = []
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for dtype in DTYPES if dtypes is None else dtypes:
            entries.extend(_Reference(dtype, generator).measure(CASES if cases is None else cases, progress))
    versions = (machine.torch, sparsecore.__version__)
    return Calibration(machine.kind, machine.isa, machine.threads, *versions, tuple(entries))


class _Reference:
    """The dense layer of one type, its inputs, and all times of it: the packed layers are measured against it."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.values, self.generator = dtype, generator
        self.dtype = torch.float32 if dtype is torch.int8 else dtype
        self.dense = dense_layer(torch.ones(_SHAPE, dtype=self.dtype))
        self.call = _call_seconds(dense_layer(torch.ones(16, 16, dtype=self.dtype)), self.dtype)
        self.inputs = {tokens: torch.ones(tokens, _SHAPE[1], dtype=self.dtype) for tokens in _TOKENS}
        self.times: dict[int, list[float]] = {tokens: [] for tokens in _TOKENS}
        self.streams: list[float] = []

    def measure(self, cases: Cases, progress: Progress) -> Iterator[Entry]:
        name = str(self.values).removeprefix("torch.")
        found: list[tuple[str, float, float, dict[int, float]]] = []
        streams: dict[str, float] = {}
        # One for all patterns: what a call costs outside its kernel does not depend on them.
        call = min(_call_seconds(self._packed(pattern, 0.5, (16, 16)), self.dtype) for pattern, _ in cases)
        for pattern, densities in cases:
            for density in densities:
                progress(f"{name} {pattern.name} {density:g}")
                layer = self._packed(pattern, density, _SHAPE)
                if pattern.kind not in streams:
                    streams[pattern.kind] = self._stream(layer, call)
                found.append((pattern.name, density, streams[pattern.kind], self._ratios(layer)))
        dense = {tokens: statistics.median(times) for tokens, times in self.times.items() if times}
        if self.values is self.dtype:
            stream = statistics.median(self.streams)
            yield Entry(DENSE, name, 1.0, FormSpeed(self.call, stream, _costs(dense, self.call)))
        for form, density, stream, ratios in found:
            seconds = {tokens: dense[tokens] * ratio for tokens, ratio in ratios.items()}
            yield Entry(form, name, density, FormSpeed(call, stream, _costs(seconds, call)))

    def _packed(self, pattern: Pattern, density: float, shape: tuple[int, int]) -> SparseLinear:
        weight = random_weight(shape, pattern, density, self.dtype, self.generator)
        return SparseLinear.from_dense(dense_layer(weight), pattern, self.values)

    def _ratios(self, layer: nn.Module) -> dict[int, float]:
        """Packed time over dense time at each number of tokens, medians of pairs that take turns.

        Ends where a call takes too long to be asked for again and again; the cost is taken to stay as it is from there.
        """
        ratios: dict[int, float] = {}
        for tokens, x in self.inputs.items():
            calls = {"dense": lambda x=x: self.dense(x), "packed": lambda x=x: layer(x)}
            times = interleaved(calls, rounds=400, least=_LEAST, budget_s=_POINT_S)
            self.times[tokens].extend(times["dense"])
            ratios[tokens] = median_ratio(times["packed"], times["dense"])
            if statistics.median(times["packed"]) > _SLOW_S:
                break
        return ratios

    def _stream(self, layer: SparseLinear, call_s: float) -> float:
        """Bytes/s of the packed form, one token, weights in no cache; notes the dense form's on the way."""
        dense_bytes = self.dense.weight.numel() * self.dense.weight.element_size()
        count = cold_copies(dense_bytes + layer.held_bytes)
        x = self.inputs[1]
        dense = cycle([dense_layer(self.dense.weight.detach().clone()) for _ in range(count)])
        packed = cycle(packed_copies(layer, count))
        calls: dict[str, Callable[[], Tensor]] = {"dense": lambda: next(dense)(x), "packed": lambda: next(packed)(x)}
        times = interleaved(calls, rounds=4 * count, least=_LEAST, budget_s=_STREAM_S)
        self.streams.append(dense_bytes / _beyond(statistics.median(times["dense"]), self.call))
        return layer.held_bytes / _beyond(statistics.median(times["packed"]), call_s)


def _costs(seconds: dict[int, float], call_s: float) -> tuple[tuple[int, float], ...]:
    """Seconds a position and token, what the call itself takes left out."""
    positions = _SHAPE[0] * _SHAPE[1]
    return tuple((t, _beyond(s, call_s) / (t * positions)) for t, s in seconds.items())


def _beyond(seconds: float, call_s: float) -> float:
    """What a call takes beyond its fixed cost; noise must not make that nothing."""
    return max(seconds - call_s, 0.05 * seconds)


def _call_seconds(tiny: nn.Module, dtype: torch.dtype) -> float:
    x = torch.ones(1, 16, dtype=dtype)
    times = interleaved({"tiny": lambda: tiny(x)}, rounds=200, least=50, budget_s=0.004)
    return statistics.median(times["tiny"])
