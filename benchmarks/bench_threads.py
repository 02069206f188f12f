"""What it costs a model that our layers and torch's take turns on the same threads.

The first time is the sum of its layers run one kind after the other, ours and then torch's; the second that of the
model, in which they alternate. A ratio below 1 is the share lost to the switching. Run it with 2 threads or more.
"""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch import nn

from sparsecore.nn import SparseLinear

LAYERS, HIDDEN, INNER = 12, 768, 3072


def pairs(dtype: torch.dtype) -> list[tuple[SparseLinear, nn.Linear]]:
    """Return the up (2:4, ours) and down (dense, torch's) projections of all layers."""
    found = []
    for _ in range(LAYERS):
        up, down = nn.Linear(HIDDEN, INNER, dtype=dtype), nn.Linear(INNER, HIDDEN, dtype=dtype)
        with torch.no_grad():
            up.weight.view(INNER, HIDDEN // 4, 4)[..., :2] = 0
        found.append((SparseLinear.from_dense(up, "2:4"), down))
    return found


@pytest.mark.parametrize("tokens", [1, 8, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def bench_alternating_layers(compare: Compare, dtype: torch.dtype, tokens: int) -> None:
    layers = pairs(dtype)
    x, wide = torch.randn(tokens, HIDDEN, dtype=dtype), torch.randn(tokens, INNER, dtype=dtype)

    def apart() -> None:
        for up, _ in layers:
            up(x)
        for _, down in layers:
            down(wide)

    def alternating() -> None:
        for up, down in layers:
            up(x)
            down(wide)

    with torch.no_grad():
        compare(apart, alternating)
