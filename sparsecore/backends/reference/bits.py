"""Bits in bytes, little bit order: bit i of byte j is element 8j + i."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(bits: Tensor) -> Tensor:
    """Bool [rows, n] to uint8 [rows, ceil(n / 8)]; unused high bits of the last byte are 0."""
    rows, count = bits.shape
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -count % 8)).reshape(rows, -(-count // 8), 8)
    return (padded << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor, count: int | None) -> Tensor:
    """Uint8 [rows, bytes] to bool [rows, count]; None: all the bits."""
    bits = (packed.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    return bits.reshape(packed.shape[0], packed.shape[1] * 8)[:, :count].bool()
