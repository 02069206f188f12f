"""Which arguments of the operators on stores of keys and values fit together; see `ops.decode_attention`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparsecore.backends.reference.bitplane import KEY_BITS
from sparsecore.errors import DtypeError, InvalidValueError, ShapeError

__all__ = ["PAGE_SIZES", "check_append", "check_compact", "check_decode", "check_pages", "check_store"]

PAGE_SIZES = (16, 32, 64, 128, 256)
"""Slots that a page of a paged store may have."""

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _dtypes(place: int, parts: int, msb_bits: int, value_parts: int) -> tuple[torch.dtype, ...]:
    if place < parts:
        return (torch.uint8,) if msb_bits else _FLOATS
    return (torch.int8,) if value_parts == 2 else _FLOATS


def check_store(keys: Sequence[Tensor], values: Sequence[Tensor], msb_bits: int) -> tuple[int, int, int]:
    """Return sequences (or pages), key heads and slots of a store whose tensors fit together."""
    if msb_bits not in (0, *KEY_BITS):
        raise InvalidValueError(f"msb_bits is {msb_bits}", where="msb_bits", expected=f"0 (dense) or one of {KEY_BITS}")
    parts = 1 if not msb_bits else 4 if msb_bits > 8 else 3
    if len(keys) != parts or len(values) not in (1, 2):
        raise ShapeError(
            f"{len(keys)} tensors of keys and {len(values)} of values",
            where="keys, values",
            expected=f"{parts} for {msb_bits} high bits, and 1 or 2 (int8 with a scale)",
        )
    if keys[0].dim() != 4:
        raise ShapeError(f"keys are {list(keys[0].shape)}", where="keys", expected="[B, Hkv, C, D]")
    shape = tuple(keys[0].shape[:3])
    for place, part in enumerate((*keys, *values)):
        scale = place in (parts - 1 if msb_bits else -1, parts + 1)
        if part.dim() != (3 if scale else 4) or tuple(part.shape[:3]) != shape:
            raise ShapeError(
                f"a tensor of the store is {list(part.shape)}",
                where="keys, values",
                expected=f"{[*shape]}{'' if scale else ' and a width'}",
            )
        allowed = (torch.float32,) if scale else _dtypes(place, parts, msb_bits, len(values))
        if part.dtype not in allowed:
            raise DtypeError(
                f"a tensor of the store is {part.dtype}",
                where=f"tensor {place} of keys and values",
                expected=" or ".join(str(dtype) for dtype in allowed),
            )
    return keys[0].shape[0], keys[0].shape[1], keys[0].shape[2]


def check_pages(pages: Tensor, batch: int, slots: int) -> int:
    """Return the slots that a sequence of a paged store may have."""
    if pages.dtype != torch.int32 or pages.dim() != 2 or pages.shape[0] != batch:
        raise ShapeError(
            f"pages is {pages.dtype} {list(pages.shape)}", where="pages", expected=f"int32 [{batch}, entries]"
        )
    if slots not in PAGE_SIZES:
        raise ShapeError(f"pages of {slots} slots", where="keys", expected=f"[pages, Hkv, one of {PAGE_SIZES}, ...]")
    return pages.shape[1] * slots


def check_decode(
    q: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    starts: Tensor,
    lengths: Tensor,
    width: int,
    rows: Tensor | None,
    row_counts: Tensor | None,
    heads: Tensor | None,
    msb_bits: int,
    scale: float,
    threshold: float,
    value_keep: float,
    value_mass: float,
    pages: Tensor | None = None,
) -> None:
    """Refuse arguments of `decode_attention` that do not fit together."""
    owners, heads_kv, slots = check_store(keys, values, msb_bits)
    batch = owners if pages is None or q.dim() != 4 else q.shape[0]
    capacity = slots if pages is None else check_pages(pages, batch, slots)
    if q.dim() != 4 or q.shape[0] != batch or q.shape[2] != 1 or heads_kv == 0 or q.shape[1] % heads_kv:
        raise ShapeError(
            f"q is {list(q.shape)}", where="q", expected=f"[{batch}, a multiple of {heads_kv} heads, 1, D]"
        )
    dim = q.shape[3]
    for plane, have in enumerate(part.shape[3] for part in keys[: len(keys) - 1 if msb_bits else 1]):
        packed = msb_bits == 4 or (msb_bits and plane > 0)
        if have != (-(-dim // 2) if packed else dim):
            raise ShapeError(
                f"q has head size {dim}, a tensor of the keys is {have} wide", where="keys", expected="one size"
            )
    if not q.dtype.is_floating_point or (not msb_bits and q.dtype != keys[0].dtype):
        expected = "floating point" if msb_bits else f"that of the keys, {keys[0].dtype}"
        raise DtypeError(f"q is {q.dtype}", where="q", expected=expected)
    for name, tensor, dtype, shape in (
        ("starts", starts, torch.int64, [batch]),
        ("lengths", lengths, torch.int64, [batch]),
        ("rows", rows, torch.int64, [batch, rows.shape[-1] if rows is not None and rows.dim() else 0]),
        ("row_counts", row_counts, torch.int64, [batch]),
        ("heads", heads, torch.bool, [batch, q.shape[1]]),
    ):
        if tensor is not None and tensor.dtype != dtype:
            raise DtypeError(f"{name} is {tensor.dtype}", where=name, expected=str(dtype))
        if tensor is not None and list(tensor.shape) != shape:
            raise ShapeError(f"{name} is {list(tensor.shape)}", where=name, expected=str(shape))
    if rows is None and row_counts is not None:
        raise InvalidValueError("row_counts without rows", where="row_counts", expected="both or none")
    if not 0 <= width <= capacity:
        raise InvalidValueError(f"width is {width}", where="width", expected=f"0 ... {capacity}, the capacity")
    for name, number in (("scale", scale), ("threshold", threshold), ("value_mass", value_mass)):
        if not math.isfinite(number):
            raise InvalidValueError(f"{name} is {number}", where=name, expected="a finite number")
    if not 0 < value_keep <= 1:
        raise InvalidValueError(f"value_keep is {value_keep}", where="value_keep", expected="0 < value_keep <= 1")


def check_append(
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    new_keys: Tensor,
    new_values: Tensor,
    positions: Tensor,
    msb_bits: int,
    value_bits: int,
    pages: Tensor | None = None,
) -> None:
    """Refuse arguments of `kv_append_` that do not fit together."""
    owners, heads, slots = check_store(keys, values, msb_bits)
    batch = owners if pages is None or new_keys.dim() != 4 else new_keys.shape[0]
    if pages is not None:
        check_pages(pages, batch, slots)
    wide = [batch, heads, new_keys.shape[2] if new_keys.dim() == 4 else -1]
    dims = (new_keys.shape[-1] if new_keys.dim() else 0, values[0].shape[3])
    for name, new, dim in (("new_keys", new_keys, dims[0]), ("new_values", new_values, dims[1])):
        if list(new.shape) != [*wide, dim]:
            raise ShapeError(f"{name} is {list(new.shape)}", where=name, expected=f"[{batch}, {heads}, tokens, {dim}]")
        if not new.dtype.is_floating_point:
            raise DtypeError(f"{name} is {new.dtype}", where=name, expected="floating point")
    for plane, have in enumerate(part.shape[3] for part in keys[: len(keys) - 1 if msb_bits else 1]):
        packed = msb_bits == 4 or (msb_bits and plane > 0)
        if have != (-(-dims[0] // 2) if packed else dims[0]):
            raise ShapeError(
                f"new_keys has head size {dims[0]}, the store another", where="new_keys", expected="that of the store"
            )
    if positions.dtype != torch.int64 or list(positions.shape) != [batch]:
        raise ShapeError(
            f"positions is {positions.dtype} {list(positions.shape)}", where="positions", expected=f"int64 [{batch}]"
        )
    if (value_bits != 0) != (len(values) == 2) or not (value_bits == 0 or 4 <= value_bits <= 8):
        raise InvalidValueError(
            f"value_bits is {value_bits} with {len(values)} tensors of values",
            where="value_bits",
            expected="4 ... 8 with a scale, 0 without",
        )
    if pages is None and new_keys.shape[2] > slots:
        raise InvalidValueError(f"{new_keys.shape[2]} tokens", where="new_keys", expected=f"at most {slots}")


def check_compact(stored: Sequence[Tensor], index: Tensor, counts: Tensor) -> None:
    """Refuse arguments of `kv_compact_` that do not fit together."""
    if not stored or any(part.dim() not in (3, 4) or part.shape[:3] != stored[0].shape[:3] for part in stored):
        raise ShapeError("tensors of the store differ", where="stored", expected="[B, Hkv, C] or [B, Hkv, C, width]")
    batch, capacity = stored[0].shape[0], stored[0].shape[2]
    for name, tensor, shape in (("index", index, [batch, index.shape[-1]]), ("counts", counts, [batch])):
        if tensor.dtype != torch.int64 or list(tensor.shape) != shape:
            raise ShapeError(f"{name} is {tensor.dtype} {list(tensor.shape)}", where=name, expected=f"int64 {shape}")
    if index.shape[1] > capacity:
        raise ShapeError(f"index is {list(index.shape)}", where="index", expected=f"at most {capacity} rows")
