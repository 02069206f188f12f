"""Top-k selection against torch.topk(sorted=False), values and indices of both; here they come in index order."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare

from sparsecore import ops

# (rows, length): many rows of a few thousand, few long ones, and the handful of a pruning decision.
SHAPES = [(12, 128), (256, 1024), (256, 4096), (64, 16384), (4, 65536), (2, 1_000_000)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("share", [3, 10, 100, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_topk_select(compare: Compare, shape: tuple[int, int], share: int | None, dtype: torch.dtype) -> None:
    x, k = torch.randn(shape, dtype=dtype), 10 if share is None else max(1, shape[1] // share)
    compare(lambda: torch.topk(x, k, sorted=False), lambda: ops.topk_select(x, k))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_topk_threshold(compare: Compare, shape: tuple[int, int]) -> None:
    x, k = torch.randn(shape), shape[1] // 3
    compare(lambda: torch.topk(x, k, sorted=False).values.amin(-1), lambda: ops.topk_threshold(x, k))
