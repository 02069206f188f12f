"""N:M linear layers against dense ones: the layers of MiniLM in fp32, larger ones in 16 bits, other patterns."""

from __future__ import annotations

import pytest
import torch
from conftest import Compare
from torch.nn.functional import linear

from sparsecore import NM
from sparsecore.packed import PackedWeight


def pruned(rows: int, cols: int, n: int, m: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a weight that keeps n random positions of every m."""
    dropped = torch.rand(rows, cols // m, m).argsort(-1)[..., n:]
    return torch.randn(rows, cols // m, m).scatter(-1, dropped, 0.0).view(rows, cols).to(dtype)


@pytest.mark.parametrize("tokens", [1, 4, 20, 64, 256, 2048])
@pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (384, 1536)], ids=lambda s: f"{s[0]}x{s[1]}")
def bench_nm_2_4_f32(compare: Compare, shape: tuple[int, int], tokens: int) -> None:
    weight, bias, x = pruned(*shape, 2, 4), torch.randn(shape[0]), torch.randn(tokens, shape[1])
    packed = PackedWeight.from_dense(weight, NM(2, 4))
    compare(lambda: linear(x, weight, bias), lambda: packed.linear(x, bias))


@pytest.mark.parametrize("tokens", [1, 16, 128, 512])
@pytest.mark.parametrize("shape", [(768, 768), (4096, 4096)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
def bench_nm_2_4_half_precision(compare: Compare, dtype: torch.dtype, shape: tuple[int, int], tokens: int) -> None:
    weight, x = pruned(*shape, 2, 4, dtype), torch.randn(tokens, shape[1]).to(dtype)
    packed = PackedWeight.from_dense(weight, NM(2, 4))
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("tokens", [1, 128])
@pytest.mark.parametrize("pattern", [(1, 4), (4, 8), (2, 8), (1, 8), (1, 16), (8, 32)], ids=lambda p: f"{p[0]}:{p[1]}")
def bench_nm_patterns_f32(compare: Compare, pattern: tuple[int, int], tokens: int) -> None:
    weight, x = pruned(768, 768, *pattern), torch.randn(tokens, 768)
    packed = PackedWeight.from_dense(weight, NM(*pattern))
    compare(lambda: linear(x, weight), lambda: packed.linear(x))


@pytest.mark.parametrize("activation", ["none", "gelu"])
def bench_nm_fused_activation(compare: Compare, activation: str) -> None:
    weight, bias, x = pruned(1536, 384, 2, 4), torch.randn(1536), torch.randn(256, 384)
    packed = PackedWeight.from_dense(weight, NM(2, 4))
    after = torch.nn.functional.gelu if activation == "gelu" else torch.nn.Identity()
    compare(lambda: after(linear(x, weight, bias)), lambda: packed.linear(x, bias, activation))
