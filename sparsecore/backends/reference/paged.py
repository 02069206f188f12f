"""Stores whose rows lie in pages of one pool, in pure torch; `ops.decode_attention` says how."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.backends.reference.decode_attention import key_parts, value_parts
from sparsecore.errors import IndexTableError

__all__ = ["append_", "gather", "in_use"]


def in_use(pages: Tensor, starts: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
    """`pages` with page 0 in the entries that no slot of their sequence is in. keys: [P, Hkv, page size, ...].

    Raises IndexTableError where one that is in use is outside of the pool.
    """
    pool, _, size = keys.shape[:3]
    first = torch.arange(pages.shape[1], device=pages.device) * size
    used = (first < (starts + lengths)[:, None]) & (first + size > starts[:, None]) & (lengths > 0)[:, None]
    if bool((used & ((pages < 0) | (pages >= pool))).any()):
        raise IndexTableError("pages outside of the pool", where="pages", expected=f"0 ... {pool - 1}")
    return torch.where(used, pages, 0)


def gather(part: Tensor, pages: Tensor) -> Tensor:
    """Rows of part [P, Hkv, page size, ...] by pages [B, T], as [B, Hkv, T * page size, ...]."""
    if not pages.numel():
        return part.new_empty((pages.shape[0], part.shape[1], 0, *part.shape[3:]))
    return part[pages.long()].transpose(1, 2).flatten(2, 3)


def append_(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    msb_bits: int,
    value_bits: int,
    pages: Tensor,
) -> None:
    """See `ops.decode_attention.kv_append_`."""
    pool, _, size = keys[0].shape[:3]
    if bool((positions < 0).any()):
        raise IndexTableError("tokens before the first slot", where="positions", expected="at least 0")
    slots = positions[:, None] + torch.arange(new_keys.shape[2], device=positions.device)
    table = torch.nn.functional.pad(pages.long(), (0, 1), value=-1)  # behind the last page there is none
    page = table.gather(1, (slots // size).clamp(max=pages.shape[1]))
    if bool((page >= pool).any()):
        raise IndexTableError("pages outside of the pool", where="pages", expected=f"at most {pool - 1}")
    stored = list(zip(keys, key_parts(new_keys, msb_bits), strict=True))
    stored += zip(values, value_parts(new_values, value_bits), strict=True)
    there = page >= 0
    for target, part in stored:
        target[page[there], :, (slots % size)[there]] = part.transpose(1, 2)[there].to(target.dtype)
