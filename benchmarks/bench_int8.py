"""int8 layers of every kind against oneDNN's dense int8 linear, whose weight is laid out and x quantised before.

Our time includes quantising x. The error of the outputs against fp32, relative, is among the extra information.
"""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from pytest_benchmark.fixture import BenchmarkFixture

from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.quantise import output_error

PATTERNS = (NM(2, 4), NM(1, 4), NM(4, 8), Unstructured(), Block(32, 32))


def pruned(rows: int, cols: int, pattern: Pattern) -> torch.Tensor:
    """Return a random weight of the pattern; a tenth is kept where the pattern leaves that free."""
    if isinstance(pattern, NM):
        dropped = torch.rand(rows, cols // pattern.m, pattern.m).argsort(-1)[..., pattern.n :]
        return torch.randn(rows, cols // pattern.m, pattern.m).scatter(-1, dropped, 0.0).view(rows, cols)
    high, wide = pattern.sizes if isinstance(pattern, Block) else (1, 1)
    kept = torch.rand(rows // high, cols // wide) < 0.1
    return torch.randn(rows, cols) * kept.repeat_interleave(high, 0).repeat_interleave(wide, 1)


@pytest.mark.parametrize("tokens", [1, 16, 128, 512])
@pytest.mark.parametrize("shape", [(768, 768), (3072, 768), (4096, 4096)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
def bench_int8(
    compare: Compare, benchmark: BenchmarkFixture, pattern: Pattern, shape: tuple[int, int], tokens: int
) -> None:
    dense = torch.nn.Linear(shape[1], shape[0], bias=False)
    with torch.no_grad():
        dense.weight.copy_(pruned(*shape, pattern))
    layer, x = SparseLinear.from_dense(dense, pattern, torch.int8), torch.randn(tokens, shape[1])
    benchmark.extra_info["output_error"] = error = output_error(layer, dense, x)
    print(f"relative error of the outputs against fp32: {error:.2e}")
    values, scales = layer.stored().unpack_quantised()
    weight = torch.ops.onednn.qlinear_prepack(values, [tokens, shape[1]])
    zeros = torch.zeros(shape[0], dtype=torch.int64)
    quantised = torch.randint(0, 255, (tokens, shape[1]), dtype=torch.uint8)

    def onednn() -> object:
        return torch.ops.onednn.qlinear_pointwise(
            quantised, 0.02, 128, weight, scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )

    x = x.bfloat16()
    with torch.no_grad():
        compare(onednn, lambda: layer(x))
