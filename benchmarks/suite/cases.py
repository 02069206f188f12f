"""What is measured and what has to be reached, as data.

A row is one kind of sparse layer; a column is a range of token counts. A bar is (must, aim) against torch's `F.linear`
and against oneDNN with a weight laid out beforehand; int8 rows have the latter only, since torch has no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsecore import NM, Block, Unstructured
from sparsecore.patterns import Pattern

SHAPES = ((384, 384), (384, 1536), (768, 768), (768, 3072), (3072, 768), (1024, 4096), (4096, 4096), (4096, 11008))
"""(in_features, out_features): K x N."""

SMALL = 500_000
"""Bars hold for weights of at least this many elements; below it the call outweighs the kernel."""

COLUMNS: dict[str, tuple[int, ...]] = {"1": (1,), "16-32": (16, 32), "64-128": (64, 128), "512-2048": (512, 2048)}
"""Token counts that stand for each column."""

MOST_OPERATIONS = 20e9
"""Beyond this a shape is measured at the lowest token count of the last column only: one call takes long enough."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Smallest ratio that has to be reached, and the one aimed at; None: no bar."""

    must: float
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of layer. plain, prepacked: bars by column, in the order of `COLUMNS`."""

    name: str
    pattern: Pattern
    density: float
    dtype: torch.dtype
    plain: tuple[Bar | None, ...]
    prepacked: tuple[Bar | None, ...]

    @property
    def dense_dtype(self) -> torch.dtype:
        """Type of activations and of the dense layer."""
        return torch.float32 if self.dtype is torch.int8 else self.dtype


def _bars(text: str) -> tuple[Bar | None, ...]:
    """ "1.8>2.2 2.2>2.5 ..." -> a bar (must, aim) for each column; "-" for none."""
    bars: list[Bar | None] = []
    for part in text.split():
        must, _, aim = part.partition(">")
        bars.append(None if part == "-" else Bar(float(must), float(aim) if aim else None))
    return tuple(bars)


_BF16, _FP32, _INT8 = torch.bfloat16, torch.float32, torch.int8
_NONE = "- - - -"
_BLOCK = ("6>9 8>9 5>7 3.5>5", "4.5>7 6>8 4>6 3>4.5")
ROWS = tuple(
    Row(name, pattern, density, dtype, _bars(plain), _bars(prepacked))
    for name, pattern, density, dtype, plain, prepacked in (
        ("bf16 2:4", NM(2, 4), 0.5, _BF16, "1.8>2.2 2.2>2.5 1.5>1.8 1.0>1.3", "1.5>1.9 1.8>2.2 1.2>1.5 0.97>1.2"),
        ("bf16 75 %", Unstructured(), 0.25, _BF16,
         "1.8>2.8 2.0>2.5 1.7>2.0 1.0>1.1", "1.5>2.3 1.7>2.2 1.3>1.7 1.0>1.05"),
        ("bf16 90 %", Unstructured(), 0.1, _BF16, "4.0>4.5 2.8>3.5 2.0>2.5 1.1>1.3", "3.0>3.8 2.3>3.0 1.6>2.1 1.0>1.2"),
        ("bf16 block 32x32 90 %", Block(32, 32), 0.1, _BF16, *_BLOCK),
        ("bf16 block 64x64 90 %", Block(64, 64), 0.1, _BF16, *_BLOCK),
        ("int8 2:4", NM(2, 4), 0.5, _INT8, _NONE, "1.4>1.6 1.4>1.6 1.1>1.2 0.97>1.1"),
        ("fp32 2:4", NM(2, 4), 0.5, _FP32, "1.5>1.8 1.3>1.5 1.3>1.5 1.0>1.2", _NONE),
        ("fp32 90 %", Unstructured(), 0.1, _FP32, "4>5 4.5>5 4>4.5 3.5>3.8", _NONE),
        ("fp32 block 16x1 90 %", Block(16, 1), 0.1, _FP32, "6>8 7>8 5.5>6 5", _NONE),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TopkCase:
    """Rows of `length` elements, the `k` largest of each; bars against torch.topk(sorted=False) and numpy."""

    length: int
    k: int
    torch: Bar
    numpy: Bar = Bar(1.5)


TOPK = tuple(
    TopkCase(length, k, Bar(must))
    for length, k, must in (
        (1024, 341, 5), (1024, 102, 5), (1024, 10, 2.3),
        (4096, 1365, 5), (4096, 409, 5), (4096, 10, 2.3),
        (16384, 5461, 8), (16384, 163, 6),
        (65536, 21845, 8), (65536, 655, 6),
        (1048576, 349525, 8), (1048576, 10485, 6),
    )
)  # fmt: skip

CLIFF_ROWS = ("bf16 2:4", "bf16 90 %", "bf16 block 32x32 90 %", "fp32 2:4", "fp32 90 %")
CLIFF_SHAPE = (768, 3072)
CLIFF_TOKENS = tuple(sorted({min(max(2**p + d, 1), 2048) for p in range(12) for d in (-1, 0, 1)}))
CLIFF_SLACK = 0.9

CALL_MOST_US = 5.0
"""What a SparseLinear call may cost more than one of nn.Linear, outside the kernel."""


def tokens_of(shape: tuple[int, int]) -> tuple[int, ...]:
    """Token counts at which `shape` is measured."""
    lowest_of_last = COLUMNS["512-2048"][0]
    return tuple(
        t
        for counts in COLUMNS.values()
        for t in counts
        if t <= lowest_of_last or 2 * t * shape[0] * shape[1] <= MOST_OPERATIONS
    )


def column_of(tokens: int) -> int:
    """Index of the column that a token count stands for."""
    return next(i for i, counts in enumerate(COLUMNS.values()) if tokens in counts)
