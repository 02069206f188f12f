"""Linear layers: few tokens on weights that no cache holds, and square products of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from case import Bar, Case, Work
from peers import block_sparse_rows, semi_structured
from place import Call, Place
from torch import Tensor
from torch.nn import functional as F

from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.prune.recipes import magnitude_vnm

__all__ = ["cases"]

_BF16 = torch.bfloat16
_LARGE, _TINY = 8192, 128
"""Features in and out: 134 MB of bf16; for the emulator two blocks of 64."""
_TINY_TOKENS = 40


def cases() -> list[Case]:
    """All cases; those of one weight follow each other, so that it is made once."""
    two_four, dense, vendor = NM(2, 4), "dense", "cuSPARSELt"
    found = [
        _case(two_four, 0.5, 8192, Bar(dense, 1.20, 1.35), Bar(vendor, 1.0, 1.10)),
        _case(two_four, 0.5, 1, Bar(dense, 1.45, 1.65)),
        _case(two_four, 0.5, 16, Bar(dense, 1.45, 1.65)),
        _case(two_four, 0.5, 256),
        _case(NM(2, 8), 0.25, 8192, Bar(dense, 1.5, 2.2), shared=True),
        _case(NM(2, 16), 0.125, 8192, shared=True),
        _case(NM(1, 4), 0.25, 8192, Bar(dense, 1.5, 2.2)),
        _case(NM(1, 4), 0.25, 1, Bar(dense, 2.7, 3.2)),
        _case(NM(1, 4), 0.25, 16, Bar(dense, 2.7, 3.2)),
        _case(NM(1, 8), 0.125, 1, Bar(dense, 4.5, 5.7)),
        _case(NM(1, 8), 0.125, 16, Bar(dense, 4.5, 5.7)),
        _case(NM(1, 8), 0.125, 8192),
        _case(NM(2, 8), 0.25, 1),
    ]
    for density, must, aim in ((0.5, 1.2, 1.4), (0.25, 2.2, 2.8), (0.1, 5, 7), (0.05, 8, 11)):
        found.append(_case(Block(64, 64), density, 8192, Bar(dense, must, aim)))
    found += [
        _case(Block(64, 64), 0.05, 1),
        _case(Block(32, 32), 0.1, 8192),
        _case(Block(128, 128), 0.1, 8192),
        _case(Unstructured(), 0.1, 1),
        _case(Unstructured(), 0.1, 1024),  # expanded at each call: what a layer that is forced to be packed costs
        _case(two_four, 0.5, 4096, Bar(dense, 1.20, 1.35), features=(4096, 14336)),
    ]
    return found


def _case(
    pattern: Pattern,
    density: float,
    tokens: int,
    *bars: Bar,
    features: tuple[int, int] = (_LARGE, _LARGE),
    shared: bool = False,
) -> Case:
    """shared: 128 rows use the same four columns of every group (V:N:M)."""
    kept = f"{pattern.name} {1 - density:.0%}" if not isinstance(pattern, NM) else pattern.name
    group = "Linear, many tokens" if tokens > 16 else "Linear, few tokens"
    name = f"bf16 {kept}{' V:N:M' * shared}, {tokens} x {features[0]} x {features[1]}"
    return Case(group, name, lambda place: _work(place, pattern, density, tokens, features, shared), bars)


def _work(place: Place, pattern: Pattern, density: float, tokens: int, features: tuple[int, int], shared: bool) -> Work:
    inside, outside = (place.size(size, _TINY) for size in features)
    count = place.size(tokens, min(tokens, _TINY_TOKENS))
    weight, layer = _layer(place.device, place.layer, pattern, density, inside, outside, shared)
    x = place.random(count, inside, dtype=_BF16)
    kept = float(weight.count_nonzero())
    work = Work(
        calls={"ours": lambda: layer(x), "dense": lambda: F.linear(x, weight)},
        exact=_exact(x, weight),
        moved=layer.held_bytes + 2.0 * count * (inside + outside),
        products=count * kept,
        dense_products=float(count) * inside * outside,
    )
    for name, make in _peers(weight, pattern, x):
        work.compare(name, make)
    return work


def _peers(weight: Tensor, pattern: Pattern, x: Tensor) -> Sequence[tuple[str, Callable[[], Call]]]:
    if pattern == NM(2, 4):
        return [("cuSPARSELt", lambda: semi_structured(weight, x))]
    if isinstance(pattern, Block):
        return [("torch BSR", lambda: block_sparse_rows(weight, x, pattern.rows))]
    return []


@lru_cache(maxsize=1)
def _layer(
    device: torch.device,
    packed: Callable[[Tensor, Pattern], SparseLinear],
    pattern: Pattern,
    density: float,
    inside: int,
    outside: int,
    shared: bool,
) -> tuple[Tensor, SparseLinear]:
    """A random weight [outside, inside] of the pattern, and a layer over it."""
    torch.manual_seed(0)
    weight = torch.randn(outside, inside, device=device)
    if shared:
        (mask,) = magnitude_vnm([weight], pattern, 1 - density, "layer")
    else:
        mask = _mask(device, pattern, density, inside, outside)
    weight = (weight * mask).to(_BF16)
    return weight, packed(weight, pattern)


def _mask(device: torch.device, pattern: Pattern, density: float, inside: int, outside: int) -> Tensor:
    if isinstance(pattern, NM):
        groups = torch.rand(outside, inside // pattern.m, pattern.m, device=device)
        return (groups.argsort(-1).argsort(-1) < pattern.n).reshape(outside, inside)
    if isinstance(pattern, Block):
        shape = (outside // pattern.rows, inside // pattern.cols)
        # As many in every row of blocks, at random places.
        per_row = max(1, round(density * shape[1]))
        kept = torch.rand(shape, device=device).argsort(-1).argsort(-1) < per_row
        return kept.repeat_interleave(pattern.rows, 0).repeat_interleave(pattern.cols, 1)
    return torch.rand(outside, inside, device=device) < density


def _exact(x: Tensor, weight: Tensor) -> Tensor:
    """The product in float64, kept in fp32, whose rounding is far below that of bf16 results."""
    wide = weight.double()
    return torch.cat([F.linear(part.double(), wide).float() for part in x.split(2048)])
