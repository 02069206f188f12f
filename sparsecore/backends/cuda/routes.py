"""Which way a packed linear layer takes on a GPU: known from sizes and types alone, so that a CUDA graph may hold it.

"kernel": one that reads the packed weight. "expand": the weight is written out into a workspace, in stream order, and
torch multiplies densely (int8 as bytes, exactly; fp8 as the type of x); from some number of tokens on that is faster
than a kernel which reads the weight for every few of them. For many tokens fp8 has a kernel for 2:4 weights on compute
capability 8.9, 9.0 and 12.x alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from sparsecore.dtypes import is_quantised
from sparsecore.native import core
from sparsecore.patterns import NM, Block, Pattern, Unstructured

__all__ = ["GATHERED", "NO_END", "Kernel", "Products", "Route", "kernel_of", "route"]

Route = Literal["kernel", "expand"]
Products = Literal["sparse", "gathered", "kept", "spread", "ordinary"]
NO_END = 2**62
GATHERED = core.CUDA_GATHERED_LAYOUTS
"""Layouts of V:N:M weights, with the rows of a block, which share columns."""

_HALVES = (torch.float16, torch.bfloat16)
_BLOCK_SIZES = (16, 32, 64, 128)
_OCTETS = (NM(1, 4), NM(1, 8), NM(2, 8))
_GENERAL = 1000  # layout of weights that do not fill tiles (csrc/cuda/layouts.h)
# Up to so many tokens the bytes of the weight decide, beyond it the products. int8 octets are a third of a byte a dense
# element at most: they are read for every 16 tokens before the bytes of the dense weight were written and read again.
# fp8 takes some 33 bytes an element to become a dense weight of 16 bits (backends/cuda/expand.py): a kernel that reads
# it for every 16 tokens takes as long at about a thousand of them, by the count in nm_linear/byte_octets/tiles.h.
_FEW_TOKENS, _FEW_INT8_TOKENS, _FEW_FP8_TOKENS = 16, 64, 512
# Compute capabilities with a kernel for products of fp8; 10.x has them only as products of fp16 in mma.sp.
_FP8 = ((8, 9), (9, 0), (12, 0), (12, 1))


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is known of the kernels of one kind of weight.

    tokens: most that they are called for. products: what they multiply with: tensor cores on 2:4 operands ("sparse"),
        on those with picked columns ("gathered"), on kept blocks ("kept") or on weights that registers spread over
        zeros ("spread"), or "ordinary" cores.
    """

    tokens: int
    products: Products


@cache
def kernel_of(
    pattern: Pattern, dtype: torch.dtype, layout: int = 0, capability: tuple[int, int] = (9, 0)
) -> Kernel | None:
    """The kernels for a weight with values of `dtype`; None where there are none.

    layout: of the resident weight; 0: the one that most weights of the pattern get. capability: of the device; only
    fp8 depends on it.
    """
    if is_quantised(dtype):
        few = _FEW_INT8_TOKENS if dtype is torch.int8 else _FEW_FP8_TOKENS
        if pattern == NM(2, 4):
            return Kernel(NO_END if dtype is torch.int8 or capability in _FP8 else few, "sparse")
        return Kernel(few, "spread") if pattern in _OCTETS else None
    halves = dtype in _HALVES
    if isinstance(pattern, Block):
        return Kernel(NO_END, "kept") if halves and set(pattern.sizes) <= set(_BLOCK_SIZES) else None
    if isinstance(pattern, Unstructured):
        return Kernel(_FEW_TOKENS, "spread") if halves else None
    if layout == _GENERAL:
        return Kernel(_FEW_TOKENS, "ordinary")
    if halves and pattern == NM(2, 4):
        return Kernel(NO_END, "sparse")
    if layout in GATHERED:
        return Kernel(NO_END, "gathered")
    return Kernel(_FEW_TOKENS, "spread" if halves and pattern in _OCTETS else "ordinary")


def route(
    pattern: Pattern, dtype: torch.dtype, tokens: int, layout: int = 0, capability: tuple[int, int] = (9, 0)
) -> Route:
    """The way of a call with `tokens` rows; the rest as in `kernel_of`."""
    kernel = kernel_of(pattern, dtype, layout, capability)
    return "kernel" if kernel is not None and tokens <= kernel.tokens else "expand"
