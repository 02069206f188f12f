"""Unstructured sparse linear layers against dense ones: every way through the kernels, by tokens and density."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch.nn.functional import linear

from sparsecore import Unstructured
from sparsecore.packed import PackedWeight

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def pruned(rows: int, cols: int, density: float) -> torch.Tensor:
    """Return a weight with `density` of its elements kept at random."""
    return torch.randn(rows, cols) * (torch.rand(rows, cols) < density)


@pytest.mark.parametrize("tokens", [1, 4, 8, 16, 32, 128, 512])
@pytest.mark.parametrize("pruned_percent", [50, 75, 90, 95])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def bench_unstructured(compare: Compare, dtype: str, pruned_percent: int, tokens: int) -> None:
    weight = pruned(3072, 768, 1 - pruned_percent / 100).to(DTYPES[dtype])
    x = torch.randn(tokens, 768).to(DTYPES[dtype])
    packed = PackedWeight.from_dense(weight, Unstructured())
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("tokens", [1, 128])
def bench_unstructured_f16(compare: Compare, tokens: int) -> None:
    weight, x = pruned(3072, 768, 0.1).half(), torch.randn(tokens, 768).half()
    packed = PackedWeight.from_dense(weight, Unstructured())
    compare(lambda: linear(x, weight), lambda: packed.linear(x))
