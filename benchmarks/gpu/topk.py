"""Top-k of rows against torch.topk, which sorts what it finds or does not: the faster of the two."""

from __future__ import annotations

import torch
from case import Bar, Case, Work
from errors import Bound
from place import Place

from sparsecore import ops

__all__ = ["cases"]


def cases() -> list[Case]:
    """Many long rows, and single short ones."""
    many, single = Bar("torch.topk", 4.0, aim_us=105), Bar("torch.topk", 2.5)
    return [
        _case(256, 262144, 2048, many),
        _case(256, 262144, 256, many),
        _case(1, 8192, 2048, single),
        _case(1, 8192, 64, single),
        _case(1, 2048, 256, single),
        _case(4096, 4096, 512),
    ]


def _case(rows: int, length: int, k: int, *bars: Bar) -> Case:
    return Case("Top-k", f"fp32 {rows} x {length}, k {k}", lambda place: _work(place, rows, length, k), bars)


def _work(place: Place, rows: int, length: int, k: int) -> Work:
    if not place.timed:
        rows, length, k = min(rows, 2), min(length, 3000), min(k, 200)
    x = place.random(rows, length)
    exact = torch.topk(x, k).values

    def ordered(values: torch.Tensor) -> torch.Tensor:
        return values.sort(-1, descending=True).values

    work = Work(
        calls={"ours": lambda: ops.topk_select(x, k)[0]},
        exact=exact,
        bound=Bound(norm=0, worst=0),
        moved=4.0 * rows * length + 12.0 * rows * k,
    )
    # Ours come in index order. Sorting is for the comparison of results only, outside of what is timed.
    work.compare("torch.topk", lambda: lambda: torch.topk(x, k).values)
    work.compare("torch.topk unsorted", lambda: lambda: torch.topk(x, k, sorted=False).values)
    work.arranged = ordered
    return work
