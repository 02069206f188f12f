"""Random weights of a given pattern and density, and as many copies of a layer as keep a timing out of the caches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsecore.nn import SparseLinear
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block, Pattern

__all__ = ["COLD_BYTES", "cold_copies", "dense_layer", "packed_copies", "random_weight"]

COLD_BYTES = 200 * 10**6
"""Weights that take turns hold about this much together: more than a last-level cache keeps."""

_MOST_COPIES = 128
_SHARED_COLUMNS = 4


def random_weight(
    shape: tuple[int, int],
    pattern: Pattern,
    density: float,
    dtype: torch.dtype,
    generator: torch.Generator,
    shared_rows: int = 0,
) -> Tensor:
    """Random weight [out_features, in_features] that satisfies `pattern`, on the device of the generator.

    Its density is that of the pattern or, where that is free, about `density`. Kept values lie in 0.5 to 1.5, so that
    no type rounds one to zero. shared_rows: so many rows of an N:M weight use the same four columns of every group
    (V:N:M); 0: rows share nothing.
    """
    rows, cols = shape

    def draw(*sizes: int) -> Tensor:
        return torch.rand(sizes, generator=generator, device=generator.device)

    if isinstance(pattern, NM):
        groups = draw(rows, -(-cols // pattern.m), pattern.m)
        if shared_rows > 0:
            of_blocks = draw(-(-rows // shared_rows), *groups.shape[1:])
            others = of_blocks.argsort(-1).argsort(-1) >= _SHARED_COLUMNS
            groups += others.repeat_interleave(shared_rows, 0)[:rows]  # behind all that are shared
        keep = (groups.argsort(-1).argsort(-1) < pattern.n).reshape(rows, -1)[:, :cols]
    elif isinstance(pattern, Block):
        kept = draw(-(-rows // pattern.rows), -(-cols // pattern.cols)) < density
        keep = kept.repeat_interleave(pattern.rows, 0)[:rows].repeat_interleave(pattern.cols, 1)[:, :cols]
    else:
        keep = draw(rows, cols) < density
    return ((draw(rows, cols) + 0.5) * keep).to(dtype)


def dense_layer(weight: Tensor) -> nn.Linear:
    """nn.Linear with `weight` and a bias of zeros; made without random numbers, so the caller's generator stays."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(weight.new_zeros(weight.shape[0]), requires_grad=False)
    return layer


def packed_copies(layer: SparseLinear, count: int) -> list[SparseLinear]:
    """`layer` and `count` - 1 more of it, each with a weight in memory of its own."""
    stored, device = layer.stored(), layer.weight_device
    more = (PackedWeight.from_stored(stored, device=device) for _ in range(count - 1))
    return [layer, *(SparseLinear.from_packed(packed, layer.bias) for packed in more)]


def cold_copies(turn_bytes: int) -> int:
    """Copies of each weight such that all together hold `COLD_BYTES`, where one of each holds `turn_bytes`.

    Two at least: forms that take turns forwards and backwards meet themselves at the ends.
    """
    return max(2, min(_MOST_COPIES, -(-COLD_BYTES // max(1, turn_bytes))))
