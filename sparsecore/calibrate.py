"""Measures the calibration of this machine or a GPU: both forms of a reference layer, in turns, for every pattern."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn

import sparsecore
from sparsecore.backends.cuda.routes import GATHERED
from sparsecore.calibration import DENSE, Calibration, Entry, FormSpeed, form_of
from sparsecore.devices import indexed
from sparsecore.dtypes import dense_dtype, is_quantised
from sparsecore.gpu import Gpu, describe_gpu
from sparsecore.machine import describe
from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.samples import cold_copies, dense_layer, packed_copies, random_weight
from sparsecore.timing import clock_of, interleaved, median_ratio

__all__ = ["CASES", "DTYPES", "GPU_CASES", "GPU_DTYPES", "GPU_QUANTISED", "GPU_SHARED", "calibrate"]

Cases = Sequence[tuple[Pattern, tuple[float, ...]]]
Progress = Callable[[str], None]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
"""Types of packed values; int8 is measured with activations in fp32 against a dense fp32 layer."""
# (pattern, densities); the first of each family is the one whose reading of cold weights is timed. 3:8 and block 4x4
# have no kernel of their own and stand for all that have none.
CASES: tuple[tuple[Pattern, tuple[float, ...]], ...] = (
    *((NM(n, m), (n / m,)) for n, m in ((2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 16), (3, 8))),
    (Unstructured(), (0.5, 0.25, 0.1, 0.05)),
    *((Block(r, c), (0.5, 0.1)) for r, c in ((32, 32), (16, 16), (64, 64), (16, 1), (1, 16), (4, 1), (4, 4))),
)
GPU_DTYPES = (torch.bfloat16, torch.float16, torch.int8, torch.float8_e4m3fn)
"""As `DTYPES`, for a GPU; int8 and fp8 are measured with activations in bf16 against a dense bf16 layer."""
GPU_CASES: Cases = (
    *((NM(n, m), (n / m,)) for n, m in ((2, 4), (1, 4), (2, 8), (1, 8), (3, 8))),
    (Unstructured(), (0.5, 0.25, 0.1)),
    *((Block(side, side), (0.5, 0.1)) for side in (64, 32, 128, 16)),
)
"""As `CASES`, for a GPU."""
GPU_QUANTISED: Cases = tuple((NM(n, m), (n / m,)) for n, m in ((2, 4), (1, 4), (2, 8), (1, 8)))
"""As `GPU_CASES`, for int8 and fp8, which have kernels for these alone."""
GPU_SHARED = (NM(2, 8), NM(2, 16))
"""Patterns that a GPU is measured with once more, in blocks of rows that share columns (V:N:M)."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """What is measured on a device: the sizes [out, in] of the layer and the token counts."""

    shape: tuple[int, int]
    tokens: tuple[int, ...]


_LAYERS = {
    "cpu": _Layer((1024, 1536), (1, 8, 32, 128, 512)),
    # So large that the work outlasts the queueing of a call.
    "cuda": _Layer((4096, 8192), (1, 8, 16, 32, 128, 512, 4096)),
}
_POINT_S, _STREAM_S, _LEAST, _SLOW_S = 0.015, 0.06, 3, 0.1


def calibrate(
    progress: Progress = lambda text: None,
    cases: Cases | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    device: torch.device | str = "cpu",
) -> Calibration:
    """Measure `device`: this machine with the instruction set and the threads in use, half a minute, or a CUDA device.

    `progress` is called with the name of each case before it is measured. cases, dtypes: all, or fewer of them. Raises
    CudaError for a CUDA device whose kernels cannot run.
    """
    device = indexed(torch.device(device))
    on_gpu = device.type == "cuda"
    place = describe_gpu(device.index or 0) if on_gpu else describe()
    source = f"measured on {place.name}" if isinstance(place, Gpu) else "measured on this machine"
    entries: list[Entry] = []
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for dtype in dtypes or (GPU_DTYPES if on_gpu else DTYPES):
            reference = _Reference(dtype, generator, _LAYERS[device.type])
            entries.extend(reference.measure(_weights(cases, on_gpu, dtype), progress))
    versions = (place.torch, sparsecore.__version__)
    return Calibration(place.kind, place.isa, place.threads, *versions, tuple(entries), source)


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight to be measured; shared_rows: as `random_weight` has them."""

    pattern: Pattern
    density: float
    shared_rows: int = 0


def _weights(cases: Cases | None, on_gpu: bool, dtype: torch.dtype) -> list[_Weight]:
    on_this = GPU_QUANTISED if is_quantised(dtype) else GPU_CASES
    wanted = cases or (on_this if on_gpu else CASES)
    found = [_Weight(pattern, density) for pattern, densities in wanted for density in densities]
    if on_gpu and not cases and not is_quantised(dtype):
        found.extend(_Weight(pattern, pattern.n / pattern.m, max(GATHERED.values())) for pattern in GPU_SHARED)
    return found


class _Reference:
    """The dense layer of one type, its inputs, and all times of it: the packed layers are measured against it."""

    def __init__(self, dtype: torch.dtype, generator: torch.Generator, layer: _Layer) -> None:
        self.values, self.generator, self.device, self.layer = dtype, generator, generator.device, layer
        self.clock, self.overlaps = clock_of(self.device), self.device.type == "cuda"
        self.dtype = torch.bfloat16 if is_quantised(dtype) and self.overlaps else dense_dtype(dtype)
        self.dense = dense_layer(self._random(layer.shape, Unstructured(), 1.0))
        self.call = self._call_seconds(dense_layer(self._random((16, 16), Unstructured(), 1.0)))
        self.inputs = {tokens: self._random((tokens, layer.shape[1]), Unstructured(), 1.0) for tokens in layer.tokens}
        self.times: dict[int, list[float]] = {tokens: [] for tokens in layer.tokens}
        self.streams: list[float] = []

    def measure(self, weights: Sequence[_Weight], progress: Progress) -> Iterator[Entry]:
        name = str(self.values).removeprefix("torch.")
        found: list[tuple[str, float, float, dict[int, float]]] = []
        streams: dict[str, float] = {}
        # One for all patterns: what a call costs outside its kernel does not depend on them.
        patterns = dict.fromkeys(weight.pattern for weight in weights)
        call = min(self._call_seconds(self._packed(_Weight(pattern, 0.5), (16, 16))) for pattern in patterns)
        for weight in weights:
            progress(f"{name} {weight.pattern.name} {weight.density:g}" + " V:N:M" * (weight.shared_rows > 0))
            layer, kind = self._packed(weight, self.layer.shape), weight.pattern.kind
            if kind not in streams:
                streams[kind] = self._stream(layer, call)
            form = form_of(weight.pattern, layer.packed.layout)
            found.append((form, weight.density, streams[kind], self._ratios(layer)))
        dense = {tokens: statistics.median(times) for tokens, times in self.times.items() if times}
        if self.values is self.dtype:
            stream = statistics.median(self.streams)
            yield Entry(DENSE, name, 1.0, self._speed(dense, self.call, stream))
        for form, density, stream, ratios in found:
            seconds = {tokens: dense[tokens] * ratio for tokens, ratio in ratios.items()}
            yield Entry(form, name, density, self._speed(seconds, call, stream))

    def _random(self, shape: tuple[int, int], pattern: Pattern, density: float) -> Tensor:
        # A GPU multiplies equal numbers faster than it ever would others: less switches, and it clocks higher.
        return random_weight(shape, pattern, density, self.dtype, self.generator)

    def _packed(self, weight: _Weight, shape: tuple[int, int]) -> SparseLinear:
        dense = random_weight(shape, weight.pattern, weight.density, self.dtype, self.generator, weight.shared_rows)
        return SparseLinear.from_dense(dense_layer(dense), weight.pattern, self.values)

    def _speed(self, seconds: dict[int, float], call_s: float, stream: float) -> FormSpeed:
        positions = self.layer.shape[0] * self.layer.shape[1]
        costs = tuple((t, self._beyond(s, call_s) / (t * positions)) for t, s in seconds.items())
        return FormSpeed(call_s, stream, costs, self.overlaps)

    def _beyond(self, seconds: float, call_s: float) -> float:
        """What a call takes beyond its fixed cost; noise must not make that nothing."""
        return seconds if self.overlaps else max(seconds - call_s, 0.05 * seconds)

    def _call_seconds(self, tiny: nn.Module) -> float:
        x = torch.ones(1, 16, dtype=self.dtype, device=self.device)
        times = interleaved({"tiny": lambda: tiny(x)}, rounds=200, least=50, budget_s=0.004, clock=self.clock)
        return statistics.median(times["tiny"])

    def _ratios(self, layer: nn.Module) -> dict[int, float]:
        """Packed time over dense time at each number of tokens, medians of pairs that take turns.

        Ends where a call takes too long to be asked for again and again; the cost is taken to stay as it is from there.
        """
        ratios: dict[int, float] = {}
        for tokens, x in self.inputs.items():
            calls = {"dense": lambda x=x: self.dense(x), "packed": lambda x=x: layer(x)}
            times = interleaved(calls, rounds=400, least=_LEAST, budget_s=_POINT_S, clock=self.clock)
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
        times = interleaved(calls, rounds=4 * count, least=_LEAST, budget_s=_STREAM_S, clock=self.clock)
        self.streams.append(dense_bytes / self._beyond(statistics.median(times["dense"]), self.call))
        return layer.held_bytes / self._beyond(statistics.median(times["packed"]), call_s)
