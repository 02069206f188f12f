"""Pack, unpack and validate the stored forms in pure torch, on any device; docs/formats.md describes the tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsecore.backends.reference.bits import pack_bits, unpack_bits
from sparsecore.errors import IndexTableError, PatternError
from sparsecore.patterns import NM, Block, Pattern, Unstructured

__all__ = ["code_bits", "count_in_blocks", "keep_mask", "pack", "parts_of", "unpack", "uses_codes", "validate"]


def code_bits(m: int) -> int:
    """Bits of a position inside a group of m: ceil(log2 m)."""
    return (m - 1).bit_length()


def uses_codes(pattern: NM) -> bool:
    """Whether n position codes take fewer bits than the m mask bits of a group."""
    return pattern.n * code_bits(pattern.m) < pattern.m


def pack(dense: Tensor, pattern: Pattern) -> dict[str, Tensor]:
    """Tensors of the stored form of `dense` [rows, cols], without `shape` and the pattern's tag.

    Raises PatternError where the weight does not satisfy the pattern.
    """
    dense = dense.detach()
    if isinstance(pattern, Block):
        return _pack_blocks(dense, pattern)
    mask = pattern.mask(dense)
    return parts_of(dense[mask], mask, pattern)


def parts_of(values: Tensor, mask: Tensor, pattern: NM | Unstructured) -> dict[str, Tensor]:
    """`pack` where it is known what is kept: the positions `mask` [rows, cols], and their values row by row."""
    if isinstance(pattern, Unstructured):
        counts = mask.sum(1)
        return {"compressed": values, "bitmask": pack_bits(mask), "row_offsets": counts.cumsum(0) - counts}
    compressed = values.reshape(mask.shape[0], pattern.kept_per_row(mask.shape[1]))
    if not uses_codes(pattern):
        return {"compressed": compressed, "bitmask": pack_bits(mask)}
    columns = mask.nonzero()[:, 1].reshape(compressed.shape)
    width = code_bits(pattern.m)
    bits = (columns % pattern.m).unsqueeze(-1) >> torch.arange(width, device=mask.device) & 1
    codes = bits.reshape(mask.shape[0], compressed.shape[1] * width).bool()
    return {"compressed": compressed, "codes": pack_bits(codes)}


def unpack(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    """Dense weight [rows, cols]; positions that are not stored are +0."""
    values = tensors["blocks" if isinstance(pattern, Block) else "compressed"]
    dense = torch.zeros(shape, dtype=values.dtype, device=values.device)
    if not isinstance(pattern, Block):
        return dense.masked_scatter_(keep_mask(pattern, shape, tensors), values)
    row, col, inside = _block_positions(pattern, shape, tensors)
    dense[row[inside], col[inside]] = values[inside]
    return dense


def keep_mask(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    """Bool [rows, cols]: the stored positions."""
    rows, cols = shape
    if isinstance(pattern, Block):
        mask = torch.zeros(shape, dtype=torch.bool, device=tensors["blocks"].device)
        row, col, inside = _block_positions(pattern, shape, tensors)
        mask[row[inside], col[inside]] = True
        return mask
    if "bitmask" in tensors:
        return unpack_bits(tensors["bitmask"], cols)
    assert isinstance(pattern, NM)
    mask = torch.zeros(rows, cols + 2 * pattern.m, dtype=torch.bool, device=tensors["codes"].device)
    return mask.scatter_(1, _code_columns(pattern, shape, tensors["codes"]), True)[:, :cols]


def count_in_blocks(pattern: Block, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> int:
    """Positions of a [rows, cols] weight that its blocks cover: those of the ragged edge's padding are not counted."""
    return int(_block_positions(pattern, shape, tensors)[2].sum())


def validate(pattern: Pattern, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
    """Check every index of a stored form whose tensors have the right shapes; raises IndexTableError."""
    if isinstance(pattern, Block):
        _validate_blocks(pattern, shape, tensors)
        return
    if "bitmask" in tensors:
        past = unpack_bits(tensors["bitmask"], None)[:, shape[1] :]
        _require(not bool(past.any()), "bitmask", "bits past the end")
    elif isinstance(pattern, NM):
        _validate_codes(pattern, shape, tensors["codes"])
    mask = keep_mask(pattern, shape, tensors)
    if isinstance(pattern, Unstructured):
        counts = mask.sum(1)
        _require(int(counts.sum()) == tensors["compressed"].numel(), "bitmask", "its bits do not count the values")
        offsets = tensors["row_offsets"]
        _require(torch.equal(offsets, counts.cumsum(0) - counts), "row_offsets", "not the prefix sums of the bitmask")
        return
    rows, cols = shape
    whole = cols // pattern.m * pattern.m
    counts = mask[:, :whole].reshape(rows, whole // pattern.m, pattern.m).sum(-1)
    tail = mask[:, whole:].sum(-1)
    exact = bool((counts == pattern.n).all()) and bool((tail == min(pattern.n, cols - whole)).all())
    _require(exact, "bitmask" if "bitmask" in tensors else "codes", f"a group does not keep exactly {pattern.n}")


def _code_columns(pattern: NM, shape: tuple[int, int], codes: Tensor) -> Tensor:
    """Column of every stored value, int64 [rows, kept per row]; a damaged code may reach past the last column."""
    rows, cols = shape
    kept, width = pattern.kept_per_row(cols), code_bits(pattern.m)
    bits = unpack_bits(codes, kept * width).reshape(rows, kept, width).long()
    within = (bits << torch.arange(width, device=codes.device)).sum(-1)
    return torch.arange(kept, device=codes.device) // pattern.n * pattern.m + within


def _validate_codes(pattern: NM, shape: tuple[int, int], codes: Tensor) -> None:
    cols = shape[1]
    used = pattern.kept_per_row(cols) * code_bits(pattern.m)
    _require(bool((unpack_bits(codes, None)[:, used:] == 0).all()), "codes", "bits past the end")
    columns = _code_columns(pattern, shape, codes)
    group_end = (torch.arange(columns.shape[1], device=codes.device) // pattern.n + 1) * pattern.m
    _require(bool((columns < group_end.clamp(max=cols)).all()), "codes", "a position is out of its group")
    _require(bool((columns.diff(dim=1) > 0).all()), "codes", "positions are not ascending")


def _pack_blocks(dense: Tensor, pattern: Block) -> dict[str, Tensor]:
    rows, cols = dense.shape
    kept = pattern.kept_blocks(dense)
    block_row, block_col = kept.nonzero(as_tuple=True)
    stored = {
        "block_cols": block_col.to(torch.int32),
        "block_row_offsets": torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0)),
    }
    blocks = torch.zeros(len(block_row), pattern.rows, pattern.cols, dtype=dense.dtype, device=dense.device)
    row, col, inside = _block_positions(pattern, (rows, cols), {**stored, "blocks": blocks})
    blocks[inside] = dense[row[inside], col[inside]]
    return {"blocks": blocks, **stored}


def _block_positions(
    pattern: Block, shape: tuple[int, int], tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and "inside the weight" of every element of every block, each [blocks, r, c]."""
    cols = tensors["block_cols"].long()
    offsets = tensors["block_row_offsets"]
    rows = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
    row = rows[:, None, None] * pattern.rows + torch.arange(pattern.rows, device=cols.device)[None, :, None]
    col = cols[:, None, None] * pattern.cols + torch.arange(pattern.cols, device=cols.device)[None, None, :]
    shaped = (len(cols), *pattern.sizes)
    row, col = row.expand(shaped), col.expand(shaped)
    return row, col, (row < shape[0]) & (col < shape[1])


def _validate_blocks(pattern: Block, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
    offsets, cols = tensors["block_row_offsets"], tensors["block_cols"].long()
    _require(int(offsets[0]) == 0 and int(offsets[-1]) == len(cols), "block_row_offsets", "ends do not fit the blocks")
    _require(bool((offsets.diff() >= 0).all()), "block_row_offsets", "not ascending")
    _require(bool(((cols >= 0) & (cols < -(-shape[1] // pattern.cols))).all()), "block_cols", "out of range")
    rows = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
    ascending = (cols.diff() > 0) | (rows.diff() > 0)
    _require(bool(ascending.all()), "block_cols", "not strictly ascending in a block row")
    _, _, inside = _block_positions(pattern, shape, tensors)
    blocks = tensors["blocks"]
    if bool(((blocks != 0) & ~inside).any()):
        raise PatternError("the padding of a ragged block is not zero", where="blocks")


def _require(valid: bool, where: str, problem: str) -> None:
    if not valid:
        raise IndexTableError(f"the stored weight is damaged: {problem}", where=where)
