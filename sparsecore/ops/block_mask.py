"""Which blocks of keys each block of queries sees, as lists: what is not listed is neither read nor multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecore.errors import DtypeError, IndexTableError, InvalidValueError, ShapeError

__all__ = ["BLOCK_SIZES", "BlockMask"]

BLOCK_SIZES = (64, 128)


@dataclass(frozen=True)
class BlockMask:
    """Lists of key blocks; make one by `from_dense` or `from_lists`, which look at every index once.

    Parameters
    ----------
    offsets: int64 [B or 1, Hq or 1, query blocks + 1]; block i of the queries lists indices[offsets[i]:offsets[i + 1]].
    indices: int32 [n], key blocks, ascending within a list.
    block_size: tokens of a block of queries and of one of keys, 64 or 128 each. queries, keys: tokens; last blocks may
        be shorter.
    """

    offsets: Tensor
    indices: Tensor
    block_size: tuple[int, int]
    queries: int
    keys: int

    @classmethod
    def from_dense(cls, blocks: Tensor, queries: int, keys: int, block_size: tuple[int, int] = (128, 64)) -> BlockMask:
        """Make lists of `blocks`, bool [B or 1, Hq or 1, query blocks, key blocks], True = seen.

        Waits for the device once, as the number of listed blocks has to be known. Raises ShapeError, DtypeError,
        InvalidValueError.
        """
        _check_sizes(queries, keys, block_size)
        if blocks.dtype != torch.bool:
            raise DtypeError(f"the blocks are {blocks.dtype}", where="blocks", expected="bool, True = seen")
        wanted = (-(-queries // block_size[0]), -(-keys // block_size[1]))
        if blocks.dim() != 4 or blocks.shape[2:] != wanted:
            raise ShapeError(
                f"the blocks are {list(blocks.shape)}", where="blocks", expected=f"[B, Hq, {wanted[0]}, {wanted[1]}]"
            )
        counts = blocks.sum(-1)
        ends = counts.flatten().cumsum(0).view(counts.shape)
        starts = ends - counts
        offsets = torch.cat((starts[..., :1], ends), -1) if wanted[0] else counts.new_zeros((*counts.shape[:2], 1))
        return cls(offsets, blocks.nonzero()[:, 3].int(), block_size, queries, keys)

    @classmethod
    def from_lists(
        cls, offsets: Tensor, indices: Tensor, queries: int, keys: int, block_size: tuple[int, int] = (128, 64)
    ) -> BlockMask:
        """Check lists in full (on the host) and take them as they are.

        Raises ShapeError, DtypeError, InvalidValueError; IndexTableError for offsets that do not ascend from 0 to the
        number of indices, and for indices that are no key block or do not ascend within a list.
        """
        _check_sizes(queries, keys, block_size)
        if offsets.dtype != torch.int64 or indices.dtype != torch.int32:
            raise DtypeError(
                f"the lists are {offsets.dtype}, {indices.dtype}", where="offsets, indices", expected="int64, int32"
            )
        lists = -(-queries // block_size[0])
        if offsets.dim() != 3 or offsets.shape[2] != lists + 1 or indices.dim() != 1:
            raise ShapeError(
                f"the lists are {list(offsets.shape)}, {list(indices.shape)}",
                where="offsets, indices",
                expected=f"[B, Hq, {lists + 1}], [n]",
            )
        _check_lists(offsets.cpu(), indices.cpu(), -(-keys // block_size[1]))
        return cls(offsets, indices, block_size, queries, keys)

    def to(self, device: torch.device | str) -> BlockMask:
        """The same lists on another device."""
        return BlockMask(self.offsets.to(device), self.indices.to(device), self.block_size, self.queries, self.keys)


def _check_sizes(queries: int, keys: int, block_size: tuple[int, int]) -> None:
    if len(block_size) != 2 or any(size not in BLOCK_SIZES for size in block_size):
        raise InvalidValueError(
            f"block_size is {block_size}", where="block_size", expected="64 or 128 for queries and keys"
        )
    if queries < 0 or keys < 0:
        raise InvalidValueError(f"{queries} queries, {keys} keys", where="queries, keys", expected="at least 0")


def _check_lists(offsets: Tensor, indices: Tensor, key_blocks: int) -> None:
    starts, ends = offsets[..., :-1].flatten(), offsets[..., 1:].flatten()
    count = indices.numel()
    chained = bool((starts[1:] == ends[:-1]).all() and (starts <= ends).all())
    if not chained or (starts.numel() > 0 and (int(starts[0]) != 0 or int(ends[-1]) != count)):
        raise IndexTableError(
            "offsets do not ascend", where="offsets", expected=f"from 0 to {count}, each list behind the last"
        )
    if starts.numel() == 0 and count:
        raise IndexTableError(f"{count} indices and no list", where="indices", expected="none")
    if bool(((indices < 0) | (indices >= key_blocks)).any()):
        raise IndexTableError("an index is no key block", where="indices", expected=f"0 to {key_blocks - 1}")
    within = torch.ones(max(count - 1, 0), dtype=torch.bool)
    inner = ends[(ends > 0) & (ends < count)] - 1
    within[inner] = False  # the last of a list and the first of the next one
    if bool(((indices[1:] <= indices[:-1]) & within).any()):
        raise IndexTableError(
            "indices do not ascend within a list", where="indices", expected="each key block once, in order"
        )
