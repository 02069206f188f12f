"""Unstructured sparse linear layers against dense ones."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch.nn.functional import linear

from sparsecore import Unstructured
from sparsecore.packed import PackedWeight


def pruned(rows: int, cols: int, density: float) -> torch.Tensor:
    """Return a weight with `density` of its elements kept at random."""
    return torch.randn(rows, cols) * (torch.rand(rows, cols) < density)


@pytest.mark.parametrize("tokens", [1, 4, 16, 128, 512])
@pytest.mark.parametrize("pruned_percent", [50, 75, 90, 95])
def bench_unstructured(compare: Compare, pruned_percent: int, tokens: int) -> None:
    weight, x = pruned(1536, 384, 1 - pruned_percent / 100), torch.randn(tokens, 384)
    packed = PackedWeight.from_dense(weight, Unstructured())
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])
def bench_unstructured_half_precision(compare: Compare, dtype: torch.dtype) -> None:
    weight, x = pruned(1536, 384, 0.1).to(dtype), torch.randn(128, 384).to(dtype)
    packed = PackedWeight.from_dense(weight, Unstructured())
    compare(lambda: linear(x, weight), lambda: packed.linear(x))
