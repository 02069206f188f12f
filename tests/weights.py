"""Random sparse weights and the float64 oracle, shared by the tests of the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsecore.native import core
from sparsecore.patterns import NM, Block, Pattern, Unstructured

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ISAS = core.available_isas()

# Groups, tails and position codes of every form: bitmask and codes, m a power of two and not, blocks ragged both ways.
PATTERNS: tuple[Pattern, ...] = (
    NM(2, 4),
    NM(1, 4),
    NM(4, 8),
    NM(2, 8),
    NM(1, 2),
    NM(3, 7),
    NM(1, 16),
    NM(31, 32),
    Unstructured(),
    Block(32, 32),
    Block(4, 8),
    Block(16, 1),
    Block(1, 16),
    Block(3, 5),
)


def names(pattern: Pattern) -> str:
    return pattern.name


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_mask(rows: int, cols: int, pattern: Pattern, rng: torch.Generator, density: float = 0.3) -> Tensor:
    """A keep mask of the pattern, bool [rows, cols]; blocks and single values are kept with probability `density`."""
    if isinstance(pattern, NM):
        groups = -(-cols // pattern.m)
        scores = torch.rand(rows, groups * pattern.m, generator=rng)
        scores[:, cols:] = -1
        chosen = scores.reshape(rows, groups, pattern.m).topk(pattern.n, -1).indices
        mask = torch.zeros(rows, groups, pattern.m, dtype=torch.bool).scatter_(-1, chosen, True)
        return mask.reshape(rows, groups * pattern.m)[:, :cols]
    high, wide = (pattern.rows, pattern.cols) if isinstance(pattern, Block) else (1, 1)
    kept = torch.rand(-(-rows // high), -(-cols // wide), generator=rng) < density
    return kept.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:rows, :cols]


def random_weight(
    rows: int, cols: int, pattern: Pattern, rng: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A weight that satisfies the pattern; about one kept value in ten is a zero."""
    values = torch.randn(rows, cols, generator=rng)
    values = torch.where(torch.rand(rows, cols, generator=rng) > 0.1, values, 0)
    return torch.where(random_mask(rows, cols, pattern, rng), values, 0).to(dtype)


def exact_linear(x: Tensor, dense: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
    """Sum over the kept positions, one product at a time, in float64: x [tokens, in] to [tokens, out]."""
    products = x.double()[:, None, :] * dense.double()
    total = torch.where(mask, products, 0).sum(-1)
    return total if bias is None else total + bias.double()


def assert_close(actual: Tensor, exact: Tensor, magnitude: Tensor, terms: int) -> None:
    """`actual` is `exact` up to fp32 sums of `terms` products of total `magnitude` and one rounding to its dtype."""
    unit = torch.finfo(actual.dtype).eps / 2
    bound = magnitude * (terms + 4) * 2**-24 + exact.abs() * unit * 1.01 + torch.finfo(actual.dtype).tiny
    error = (actual.double() - exact).abs()
    finite = exact.isfinite() & (exact.abs() < torch.finfo(actual.dtype).max)
    worst = (error - bound)[finite].max() if bool(finite.any()) else torch.tensor(0.0)
    assert worst <= 0, f"error exceeds its bound by {worst:.3g}"
    assert torch.equal(actual.isnan(), exact.isnan())
