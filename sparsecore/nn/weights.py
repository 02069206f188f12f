"""What modules ask of a packed weight beside computing with it."""

from __future__ import annotations

import torch

from sparsecore import resident
from sparsecore.dtypes import dense_dtype
from sparsecore.errors import NamedError
from sparsecore.formats import StoredWeight
from sparsecore.packed import PackedWeight
from sparsecore.patterns import NM, Block

__all__ = ["density", "moved", "named_for", "retyped"]


def density(packed: PackedWeight) -> float:
    """Kept positions over all positions; 1 for a weight without elements.

    NaN on the meta device where the count depends on the values.
    """
    (rows, cols), pattern = packed.shape, packed.pattern
    if not rows * cols:
        return 1.0
    if isinstance(pattern, NM):
        return pattern.kept_per_row(cols) / cols
    if packed.device.type == "meta":
        return float("nan")
    if isinstance(pattern, Block) and (rows % pattern.rows or cols % pattern.cols):
        return packed.stored().density  # blocks at the edges count for less
    kept = resident.check(packed.resident).kept
    return kept * (pattern.rows * pattern.cols if isinstance(pattern, Block) else 1) / (rows * cols)


def moved(packed: PackedWeight, dtype: torch.dtype, device: torch.device) -> PackedWeight:
    """Return the same weight with values of type `dtype` on `device`.

    Nothing can be copied out of the meta device: there the result holds zeros and waits for a state to be loaded.
    """
    if packed.device.type == "meta" and device.type != "meta":
        zeros = torch.zeros(packed.shape, dtype=dense_dtype(dtype))
        return PackedWeight.from_dense(zeros, packed.pattern, dtype).to(device)
    return packed.to(device, dtype)


def retyped(stored: StoredWeight, dtype: torch.dtype) -> StoredWeight:
    """Return a stored weight on the meta device with values of type `dtype`."""
    return stored.to(dtype=dtype)


def named_for(error: NamedError, layer: str) -> NamedError:
    """Return `error` with the layer that it happened in put before its place."""
    where = f"{layer}: {error.where}" if error.where else layer
    return type(error)(error.what, where=where, expected=error.expected, hint=error.hint)
