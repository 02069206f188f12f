"""Which way a packed linear layer takes on a GPU: known from sizes and types alone, so that a CUDA graph may hold it.

"kernel": one that reads the packed weight. "expand": the weight is written out into a workspace, in stream order, and
torch multiplies densely; from some number of tokens on that is faster than a kernel which does not use tensor cores.
"""

from __future__ import annotations

from typing import Literal

import torch

from sparsecore.patterns import NM, Block, Pattern

__all__ = ["NO_END", "Route", "kernel_tokens", "route"]

Route = Literal["kernel", "expand"]
NO_END = 2**62

_HALVES = (torch.float16, torch.bfloat16)
_BLOCK_SIZES = (16, 32, 64, 128)  # rows and columns of blocks that tensor cores multiply
# The kernels on ordinary cores: every four tokens read the weight once more.
_FEW_TOKENS = 16


def kernel_tokens(pattern: Pattern, dtype: torch.dtype) -> int:
    """Most tokens that a kernel is called for; `NO_END` where it takes any number, 0 where there is no kernel."""
    if isinstance(pattern, NM):
        if dtype is torch.int8:
            return 0
        return NO_END if pattern == NM(2, 4) and dtype in _HALVES else _FEW_TOKENS
    if isinstance(pattern, Block):
        return NO_END if dtype in _HALVES and all(size in _BLOCK_SIZES for size in pattern.sizes) else 0
    return 0


def route(pattern: Pattern, dtype: torch.dtype, tokens: int) -> Route:
    """The way of a call with `tokens` rows on a weight with values of `dtype`."""
    return "kernel" if tokens <= kernel_tokens(pattern, dtype) else "expand"
