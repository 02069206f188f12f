"""Times layers of the table: every form of one shape takes turns in one process, through the public module."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from cases import Row
from torch import Tensor, nn
from torch.nn import functional as F

from sparsecore import NM
from sparsecore.explain import COLD_TOKENS
from sparsecore.nn import SparseLinear
from sparsecore.prepacked import prepacked_linear
from sparsecore.quantise import output_error
from sparsecore.samples import cold_copies, dense_layer, packed_copies, random_weight
from sparsecore.timing import interleaved, median_ratio

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Point:
    """One row at one shape, token count and number of threads. Seconds are medians, ratios medians of neighbours.

    plain, prepacked: time of F.linear, and of oneDNN on a weight laid out beforehand, over ours; None: there is none.
    error: of quantised outputs against those of the same weight in fp32, relative; None where nothing is quantised.
    """

    row: str
    shape: tuple[int, int]
    tokens: int
    threads: int
    seconds: float
    plain: float | None
    prepacked: float | None
    held_bytes: int
    dense_bytes: int
    error: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Shape:
    """All forms of one shape: the dense weight, and a packed layer for each row, in as many copies as are needed."""

    def __init__(self, shape: tuple[int, int], rows: Sequence[Row], generator: torch.Generator) -> None:
        self.shape, self.rows = shape, rows
        self.dtype = rows[0].dense_dtype
        self.int8 = rows[0].dtype is torch.int8
        features = shape[::-1]
        self.bias = torch.randn(features[0], generator=generator).to(self.dtype)
        self.weight = torch.randn(features, generator=generator).to(self.dtype)
        self.errors: list[float | None] = []
        self.layers = [self._packed(row, random_weight(features, row.pattern, row.density, self.dtype, generator))
                       for row in rows]  # fmt: skip
        # Plain and laid out beforehand; of int8 the latter alone, which makes its own copies.
        dense_bytes = self.weight.numel() * (1 if self.int8 else 2 * self.weight.element_size())
        self.copies = cold_copies(dense_bytes + sum(layer.held_bytes for layer in self.layers))
        self.weights = [self.weight, *(self.weight.clone() for _ in range(0 if self.int8 else self.copies - 1))]
        self.packed = [packed_copies(layer, self.copies) for layer in self.layers]

    def _packed(self, row: Row, kept: Tensor) -> SparseLinear:
        dense = dense_layer(torch.where(kept != 0, torch.randn(kept.shape).to(kept.dtype), 0))
        dense.bias = nn.Parameter(self.bias, requires_grad=False)
        layer = SparseLinear.from_dense(dense, row.pattern, row.dtype if self.int8 else None)
        x = torch.randn(64, self.shape[0])
        self.errors.append(output_error(layer, dense, x) if self.int8 else None)
        return layer

    def measure(self, tokens: int, threads: int, budget_s: float) -> Iterator[Point]:
        """Yield a point for each row; weights are cold up to 32 tokens."""
        count = self.copies if tokens <= COLD_TOKENS else 1
        x = torch.randn(tokens, self.shape[0]).to(self.dtype)
        calls: dict[str, Callable[[], object]] = {}
        if not self.int8:
            calls["plain"] = _turns([lambda x, w=w: F.linear(x, w, self.bias) for w in self.weights[:count]], x)
        if any(bar for row in self.rows for bar in row.prepacked) and (laid_out := self._prepacked(tokens, count)):
            calls["prepacked"] = _turns(laid_out, x)
        for row, packed in zip(self.rows, self.packed, strict=True):
            calls[row.name] = _turns(packed[:count], x)
        with torch.no_grad():
            times = interleaved(calls, rounds=300, least=3, budget_s=budget_s)
        dense_bytes = self.weight.numel() * (1 if self.int8 else self.weight.element_size())
        for row, layer, error in zip(self.rows, self.layers, self.errors, strict=True):
            own = times[row.name]
            yield Point(
                row=row.name,
                shape=self.shape,
                tokens=tokens,
                threads=threads,
                seconds=statistics.median(own),
                plain=median_ratio(times["plain"], own) if "plain" in times else None,
                prepacked=median_ratio(times["prepacked"], own) if "prepacked" in times else None,
                held_bytes=layer.held_bytes,
                dense_bytes=dense_bytes,
                error=error,
            )

    def _prepacked(self, tokens: int, count: int) -> list[Linear]:
        if self.int8:
            scales = self.weight.abs().amax(1) / 127
            values = (self.weight / scales[:, None]).round().to(torch.int8)
            return [qlinear(values, scales, self.bias, tokens) for _ in range(count)]
        found = [prepacked_linear(weight, self.bias, tokens) for weight in self.weights[:count]]
        return [one for one in found if one is not None]


def qlinear(values: Tensor, scales: Tensor, bias: Tensor, tokens: int) -> Linear:
    """oneDNN's int8 linear on a weight laid out beforehand; its activations come quantised, ours are not."""
    packed = torch.ops.onednn.qlinear_prepack(values, [tokens, values.shape[1]])
    zeros = torch.zeros(values.shape[0], dtype=torch.int32)
    x = torch.randint(0, 255, (tokens, values.shape[1]), dtype=torch.uint8)

    def linear(_: Tensor) -> Tensor:
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 0.02, 0, packed, scales, zeros, bias, 1.0, 0, torch.float32, "none", [], ""
        )
        return out

    return linear


def _turns(layers: Sequence[Linear], x: Tensor) -> Callable[[], object]:
    turn = cycle(layers)
    return lambda: next(turn)(x)


def call_cost(dtype: torch.dtype) -> tuple[float, float]:
    """Seconds of a call of nn.Linear and of SparseLinear on 16 x 16 weights and one token: nearly no arithmetic."""
    dense = dense_layer(torch.ones(16, 16, dtype=dtype))
    pattern_weight = torch.ones(16, 16, dtype=dtype)
    pattern_weight[:, ::2] = 0
    sparse = SparseLinear.from_dense(dense_layer(pattern_weight), "2:4")
    x = torch.ones(1, 16, dtype=dtype)
    with torch.no_grad():
        times = interleaved({"dense": lambda: dense(x), "sparse": lambda: sparse(x)}, rounds=20000, budget_s=0.2)
    return statistics.median(times["dense"]), statistics.median(times["sparse"])


def switching_cost(shape: tuple[int, int] = (768, 3072), tokens: int = 16, pairs: int = 6) -> float:
    """Time of a chain that alternates our layers with torch's, over the time of both alone: 1.05 loses 5 %."""
    generator = torch.Generator().manual_seed(1)
    dense = [dense_layer(torch.randn(shape[::-1], generator=generator)) for _ in range(pairs)]
    sparse = [
        SparseLinear.from_dense(dense_layer(random_weight(shape[::-1], NM(2, 4), 0.5, torch.float32, generator)), "2:4")
        for _ in range(pairs)
    ]
    x = torch.randn(tokens, shape[0])

    def run(layers: Sequence[nn.Module]) -> Callable[[], None]:
        def call() -> None:
            for layer in layers:
                layer(x)

        return call

    mixed = [layer for pair in zip(dense, sparse, strict=True) for layer in pair]
    with torch.no_grad():
        calls = {"dense": run(dense), "sparse": run(sparse), "mixed": run(mixed)}
        times = interleaved(calls, rounds=400, least=9, budget_s=1.0)
    apart = [a + b for a, b in zip(times["dense"], times["sparse"], strict=True)]
    return median_ratio(times["mixed"], apart)


class Clock:
    """Says how far a long run is."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:5.0f} s] {text}", flush=True)
