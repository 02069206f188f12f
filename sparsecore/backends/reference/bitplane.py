"""Keys as bit planes and values as small integers, one scale a token, in pure torch.

A row x [D] becomes integers round(x / scale), half to even, with scale = max|x| / (2^(bits - 1) - 1) in fp32, or 1
where that is 0. A row with an infinity or a NaN has scale NaN and integers 0, so that all that is computed from it is
NaN.

Keys have bits = msb + 4 bits. What a kernel reads first are the msb bits, k >> 4 (arithmetic); of more than 8 of those
the upper 8 lie in one plane and the others in a second. The low 4 bits, k & 15, lie in a plane of their own:

    msb   high plane                rest plane              low plane    bytes of a token of D dimensions, less low
    4     nibbles of (k >> 4) + 8   -                       nibbles      D / 2 + 4
    6, 8  bytes of (k >> 4) + 128   -                       nibbles      D + 4
    10    bytes of (k >> 6) + 128   nibbles of k >> 4 & 3   nibbles      3 D / 2 + 4
    12    bytes of (k >> 8) + 128   nibbles of k >> 4 & 15  nibbles      3 D / 2 + 4

Two nibbles share a byte: with H = ceil(D / 2), byte i holds dimension i in its low half and dimension i + H in its high
half (0 where there is none). The low plane takes D / 2 bytes more, the scale 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sparsecore.backends.reference.quantised import scales_of

__all__ = ["KEY_BITS", "LOW_BITS", "Rows", "join_keys", "pack_nibbles", "quantise_rows", "split_keys", "unpack_nibbles"]

LOW_BITS = 4
KEY_BITS = (4, 6, 8, 10, 12)
"""Numbers of high bits that keys are stored with."""


class Rows(NamedTuple):
    """Quantised rows: integers int32 [..., D] and scale fp32 [...]."""

    integers: Tensor
    scale: Tensor


def quantise_rows(x: Tensor, bits: int) -> Rows:
    """Quantise each row of x [..., D], a float tensor, to `bits` bits."""
    x = x.float()
    limit = (1 << (bits - 1)) - 1
    largest = x.abs().amax(-1, keepdim=True) if x.shape[-1] else x.new_zeros(*x.shape[:-1], 1)
    finite = largest.isfinite()
    scale = scales_of(largest, limit)
    integers = torch.where(finite, torch.round(x / scale).clamp(-limit, limit), 0).int()
    return Rows(integers, torch.where(finite, scale, torch.nan).squeeze(-1))


def pack_nibbles(x: Tensor) -> Tensor:
    """Integers 0 ... 15 [..., D] as uint8 [..., ceil(D / 2)]."""
    half = -(-x.shape[-1] // 2)
    low, high = x[..., :half], torch.nn.functional.pad(x[..., half:], (0, x.shape[-1] % 2))
    return (low | high << 4).to(torch.uint8)


def unpack_nibbles(packed: Tensor, width: int) -> Tensor:
    """Undo `pack_nibbles`: int32 [..., width]."""
    wide = packed.int()
    return torch.cat([wide & 15, wide >> 4], -1)[..., :width]


def split_keys(keys: Tensor, msb_bits: int) -> tuple[Tensor, ...]:
    """Integers of keys [..., D] as planes: (high, low), or (high, rest, low) of more than 8 high bits."""
    high, low = keys >> LOW_BITS, pack_nibbles(keys & 15)
    if msb_bits == 4:
        return pack_nibbles(high + 8), low
    if msb_bits <= 8:
        return (high + 128).to(torch.uint8), low
    rest_bits = msb_bits - 8
    rest = pack_nibbles(high & ((1 << rest_bits) - 1))
    return ((high >> rest_bits) + 128).to(torch.uint8), rest, low


def join_keys(planes: tuple[Tensor, ...], msb_bits: int, width: int, *, low: bool = True) -> Tensor:
    """Undo `split_keys`: int32 [..., width]; without the low bits with 8, the middle of what they may be."""
    high = unpack_nibbles(planes[0], width) - 8 if msb_bits == 4 else planes[0].int() - 128
    if msb_bits > 8:
        high = (high << (msb_bits - 8)) + unpack_nibbles(planes[1], width)
    return (high << LOW_BITS) + (unpack_nibbles(planes[-1], width) if low else 1 << (LOW_BITS - 1))
