"""Block-sparse linear layers against dense ones: 90 % of the blocks pruned."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch.nn.functional import linear

from sparsecore import Block
from sparsecore.packed import PackedWeight


def pruned(rows: int, cols: int, r: int, c: int, density: float) -> torch.Tensor:
    """Return a weight with `density` of its blocks kept at random."""
    kept = torch.rand(rows // r, cols // c) < density
    return torch.randn(rows, cols) * kept.repeat_interleave(r, 0).repeat_interleave(c, 1)


@pytest.mark.parametrize("tokens", [1, 16, 128, 2048])
@pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (384, 1536)], ids=lambda s: f"{s[0]}x{s[1]}")
def bench_block_32x32_90_percent(compare: Compare, shape: tuple[int, int], tokens: int) -> None:
    weight, bias, x = pruned(*shape, 32, 32, 0.1), torch.randn(shape[0]), torch.randn(tokens, shape[1])
    packed = PackedWeight.from_dense(weight, Block(32, 32))
    compare(lambda: linear(x, weight, bias), lambda: packed.linear(x, bias))


@pytest.mark.parametrize("tokens", [1, 16, 128, 512])
@pytest.mark.parametrize("shape", [(3072, 768), (4096, 4096)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("block", [(32, 32), (64, 64), (16, 16)], ids=lambda b: f"{b[0]}x{b[1]}")
def bench_block_bf16(compare: Compare, block: tuple[int, int], shape: tuple[int, int], tokens: int) -> None:
    weight, x = pruned(*shape, *block, 0.1).bfloat16(), torch.randn(tokens, shape[1]).bfloat16()
    packed = PackedWeight.from_dense(weight, Block(*block))
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("tokens", [1, 16, 128])
@pytest.mark.parametrize(
    "block", [(16, 1), (1, 16), (4, 1), (4, 4), (8, 8), (16, 16), (64, 64)], ids=lambda b: f"{b[0]}x{b[1]}"
)
def bench_block_sizes(compare: Compare, block: tuple[int, int], tokens: int) -> None:
    weight, x = pruned(768, 768, *block, 0.1), torch.randn(tokens, 768)
    packed = PackedWeight.from_dense(weight, Block(*block))
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("activation", ["none", "gelu"])
def bench_block_f16(compare: Compare, activation: str) -> None:
    weight, x = pruned(768, 768, 32, 32, 0.1).half(), torch.randn(128, 768).half()
    packed = PackedWeight.from_dense(weight, Block(32, 32))
    after = torch.nn.functional.gelu if activation == "gelu" else torch.nn.Identity()
    compare(lambda: after(linear(x, weight)), lambda: packed.linear(x, None, activation))
