"""What a call of a layer costs outside its kernel: layers so small that computing takes no time, beside nn.Linear.

`compare` prints both times; their difference is what SparseLinear adds to a call.
"""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch import nn

from sparsecore.nn import SparseLinear


def layers(dtype: torch.dtype) -> tuple[nn.Linear, SparseLinear]:
    """Return a 2:4 layer of 32 inputs and 16 outputs, dense and packed."""
    dense = nn.Linear(32, 16, dtype=dtype)
    with torch.no_grad():
        dense.weight.view(16, 8, 4)[..., :2] = 0
    return dense, SparseLinear.from_dense(dense, "2:4")


@pytest.mark.parametrize("shape", [(1, 32), (1, 1, 32)], ids=str)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def bench_call_in_inference(
    compare: Compare, dtype: torch.dtype, mode: type[torch.no_grad], shape: tuple[int, ...]
) -> None:
    dense, sparse = layers(dtype)
    x = torch.randn(shape, dtype=dtype)
    with mode():
        compare(lambda: dense(x), lambda: sparse(x))


def bench_call_that_records_a_gradient(compare: Compare) -> None:
    dense, sparse = layers(torch.float32)
    x = torch.randn(1, 32, requires_grad=True)
    compare(lambda: dense(x), lambda: sparse(x))
