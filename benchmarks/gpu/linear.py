"""Linear layers: few tokens on weights that no cache holds, and square products of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from case import Bar, Case, Work
from errors import BF16, Bound
from peers import block_sparse_rows, scaled_fp8, semi_structured
from place import Call, Place
from torch import Tensor
from torch.nn import functional as F

from sparsecore.nn import SparseLinear
from sparsecore.patterns import NM, Block, Pattern, Unstructured
from sparsecore.prune.recipes import magnitude_vnm

__all__ = ["cases"]

_BF16, _FP8 = torch.bfloat16, torch.float8_e4m3fn
_NAMES = {_BF16: "bf16", torch.int8: "int8", _FP8: "fp8"}
_LARGE, _TINY = 8192, 128
"""Features in and out: 134 MB of bf16; for the emulator two blocks of 64."""
_TINY_TOKENS = 40
_BOUNDS = {_BF16: BF16, torch.int8: Bound(norm=0.02, worst=0.12), _FP8: Bound(norm=0.06, worst=0.35)}
"""By the type of values. Weights and tokens of 8 bits are each off by 0.9 % (int8) or 2.6 % (fp8) in the norm, and of
some 10^7 sums one by six times as much."""


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of weight. shared: 128 rows use the same four columns of every group (V:N:M). values: their type."""

    pattern: Pattern
    density: float
    shared: bool = False
    values: torch.dtype = _BF16

    @property
    def name(self) -> str:
        """For tables."""
        kept = self.pattern.name if isinstance(self.pattern, NM) else f"{self.pattern.name} {1 - self.density:.0%}"
        return f"{_NAMES[self.values]} {kept}{' V:N:M' * self.shared}"


def cases() -> list[Case]:
    """All cases; those of one weight follow each other, so that it is made once."""
    dense, vendor = "dense", "cuSPARSELt"
    two_four, one_four, one_eight = Form(NM(2, 4), 0.5), Form(NM(1, 4), 0.25), Form(NM(1, 8), 0.125)
    found = [
        _case(two_four, 8192, Bar(dense, 1.20, 1.35), Bar(vendor, 1.0, 1.10)),
        _case(two_four, 1, Bar(dense, 1.45, 1.65)),
        _case(two_four, 16, Bar(dense, 1.45, 1.65)),
        _case(two_four, 256),
        _case(Form(NM(2, 8), 0.25, shared=True), 8192, Bar(dense, 1.5, 2.2)),
        _case(Form(NM(2, 16), 0.125, shared=True), 8192),
        _case(one_four, 8192, Bar(dense, 1.5, 2.2)),
        _case(one_four, 1, Bar(dense, 2.7, 3.2)),
        _case(one_four, 16, Bar(dense, 2.7, 3.2)),
        _case(one_eight, 1, Bar(dense, 4.5, 5.7)),
        _case(one_eight, 16, Bar(dense, 4.5, 5.7)),
        _case(one_eight, 8192),
        _case(Form(NM(2, 8), 0.25), 1),
    ]
    for density, must, aim in ((0.5, 1.2, 1.4), (0.25, 2.2, 2.8), (0.1, 5, 7), (0.05, 8, 11)):
        found.append(_case(Form(Block(64, 64), density), 8192, Bar(dense, must, aim)))
    unstructured, int8 = Form(Unstructured(), 0.1), Form(NM(2, 4), 0.5, values=torch.int8)
    fp8 = Form(NM(2, 4), 0.5, values=_FP8)
    found += [
        _case(Form(Block(64, 64), 0.05), 1),
        _case(Form(Block(32, 32), 0.1), 8192),
        _case(Form(Block(128, 128), 0.1), 8192),
        _case(unstructured, 1),
        _case(unstructured, 1024),  # expanded at each call: what a layer that is forced to be packed costs
        _case(int8, 1, Bar(dense, 2.4, 2.9)),
        _case(int8, 16, Bar(dense, 2.4, 2.9)),
        _case(int8, 8192),
        _case(fp8, 8192, Bar("torch fp8", 1.20, 1.38)),
        _case(fp8, 64, Bar("torch fp8", 1.20, 1.38)),
        _case(fp8, 1, Bar(dense, 2.4, 2.9)),
        _case(fp8, 16, Bar(dense, 2.4, 2.9)),
        *(_case(Form(NM(n, m), n / m, values=torch.int8), 1) for n, m in ((1, 4), (2, 8), (1, 8))),
        *(
            _case(Form(NM(n, m), n / m, values=_FP8), 1, Bar(dense, must, aim))
            for n, m, must, aim in ((1, 4, 3.2, 3.8), (2, 8, 2.9, 3.4), (1, 8, 4.7, 5.6))
        ),
        _case(two_four, 4096, Bar(dense, 1.20, 1.35), features=(4096, 14336)),
    ]
    return found


def _case(form: Form, tokens: int, *bars: Bar, features: tuple[int, int] = (_LARGE, _LARGE)) -> Case:
    group = "Linear, many tokens" if tokens > 16 else "Linear, few tokens"
    name = f"{form.name}, {tokens} x {features[0]} x {features[1]}"
    return Case(group, name, lambda place: _work(place, form, tokens, features), bars)


def _work(place: Place, form: Form, tokens: int, features: tuple[int, int]) -> Work:
    inside, outside = (place.size(size, _TINY) for size in features)
    count = place.size(tokens, min(tokens, _TINY_TOKENS))
    weight, layer = _layer(place.device, place.layer, form, inside, outside)
    x = place.random(count, inside, dtype=_BF16)
    kept = float(weight.count_nonzero())
    work = Work(
        calls={"ours": lambda: layer(x), "dense": lambda: F.linear(x, weight)},
        exact=_exact(x, weight),
        bound=_BOUNDS[form.values],
        moved=layer.held_bytes + 2.0 * count * (inside + outside),
        products=count * kept * form.values.itemsize / 2,  # those of bytes have twice the rate
        dense_products=float(count) * inside * outside,
    )
    for name, make in _peers(weight, form, x):
        work.compare(name, make)
    return work


def _peers(weight: Tensor, form: Form, x: Tensor) -> Sequence[tuple[str, Callable[[], Call]]]:
    if form == Form(NM(2, 4), 0.5):
        return [
            ("cuSPARSELt", lambda: semi_structured(weight, x, False)),
            ("cuSPARSELt, by rows", lambda: semi_structured(weight, x, True)),
        ]
    if form.values is _FP8:
        return [
            ("torch fp8", lambda: scaled_fp8(weight, x, False)),
            ("torch fp8, fast sums", lambda: scaled_fp8(weight, x, True)),
        ]
    if isinstance(form.pattern, Block):
        rows = form.pattern.rows
        return [("torch BSR", lambda: block_sparse_rows(weight, x, rows))]
    return []


@lru_cache(maxsize=1)
def _layer(
    device: torch.device, packed: Callable[..., SparseLinear], form: Form, inside: int, outside: int
) -> tuple[Tensor, SparseLinear]:
    """A random bf16 weight [outside, inside] of the form, and a layer over it."""
    torch.manual_seed(0)
    weight = torch.randn(outside, inside, device=device)
    if form.shared:
        (mask,) = magnitude_vnm([weight], form.pattern, 1 - form.density, "layer")
    else:
        mask = _mask(device, form.pattern, form.density, inside, outside)
    weight = (weight * mask).to(_BF16)
    return weight, packed(weight, form.pattern, form.values)


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
