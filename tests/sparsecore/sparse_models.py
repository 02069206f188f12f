"""Small pruned models, and how close a packed layer has to come to a dense one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparsecore.patterns import NM, Block, Pattern, Unstructured

PATTERNS: tuple[Pattern, ...] = (NM(2, 4), NM(1, 4), NM(2, 8), NM(3, 7), Block(4, 8), Block(3, 5), Unstructured())


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pruned(rows: int, cols: int, pattern: Pattern, rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random weight [rows, cols] that satisfies `pattern`; about a third is kept where the pattern leaves that free."""
    dense = torch.randn(rows, cols, generator=rng)
    if isinstance(pattern, NM):
        groups = -(-cols // pattern.m)
        order = torch.rand(rows, groups, pattern.m, generator=rng).argsort(-1).argsort(-1)
        keep = (order < pattern.n).reshape(rows, -1)[:, :cols]
    else:
        high, wide = pattern.sizes if isinstance(pattern, Block) else (1, 1)
        blocks = torch.rand(-(-rows // high), -(-cols // wide), generator=rng) < 1 / 3
        keep = blocks.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :cols]
    return (dense * keep).to(dtype)


def linear(
    cols: int,
    rows: int,
    pattern: Pattern,
    rng: torch.Generator,
    *,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
) -> nn.Linear:
    """nn.Linear(cols, rows) with a pruned weight."""
    layer = nn.Linear(cols, rows, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(pruned(rows, cols, pattern, rng, dtype))
        if bias:
            layer.bias.copy_(torch.randn(rows, generator=rng))
    return layer


def mlp(rng: torch.Generator, pattern: Pattern = NM(2, 4), width: int = 64) -> nn.Sequential:  # noqa: B008
    """Two pruned layers with a GELU and a LayerNorm between them."""
    return nn.Sequential(
        linear(width, 2 * width, pattern, rng),
        nn.GELU(),
        nn.LayerNorm(2 * width),
        linear(2 * width, width, pattern, rng),
    )


def assert_product(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check y = x W^T + b against float64, within what the element type and the length of the sums allow."""
    wide = [t.detach().double() for t in (x, weight)]
    exact, size = wide[0] @ wide[1].t(), wide[0].abs() @ wide[1].abs().t()
    if bias is not None:
        exact, size = exact + bias.detach().double(), size + bias.detach().double().abs()
    # fp32 sums of n terms stray by about sqrt(n) roundings; then one rounding to the type of the result.
    steps = 2 * math.sqrt(weight.shape[1] + 1) * torch.finfo(torch.float32).eps + torch.finfo(y.dtype).eps
    tolerance = steps * size + torch.finfo(y.dtype).tiny
    worst = ((y.detach().double() - exact).abs() / tolerance).max().item() if y.numel() else 0.0
    assert worst <= 1, f"off by {worst:.2f} times the tolerance"
