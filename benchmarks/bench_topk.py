"""Top-k selection against torch.topk, which sorts by value; here the order is by index."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare

from sparsecore import ops


@pytest.mark.parametrize("share", [3, 100])
@pytest.mark.parametrize("length", [128, 1024, 16384, 1 << 18])
def bench_topk_select(compare: Compare, length: int, share: int) -> None:
    x, k = torch.randn(max(1, 16384 // length), length), max(1, length // share)
    compare(lambda: torch.topk(x, k), lambda: ops.topk_select(x, k))


@pytest.mark.parametrize("length", [1024, 16384])
def bench_topk_threshold(compare: Compare, length: int) -> None:
    x, k = torch.randn(16384 // length, length), length // 3
    compare(lambda: torch.topk(x, k).values[:, -1], lambda: ops.topk_threshold(x, k))
