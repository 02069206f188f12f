"""What a file may expand to: sizes that its bytes do not justify are refused before anything is allocated."""

from __future__ import annotations

import math

from sparsecore.errors import CorruptFileError

__all__ = ["check_expansion"]

# A file of a few bytes can claim a matrix of any size without a value in it. What it may expand to is bounded by its
# own size (N:M and bitmask forms stay below this factor by their layout), with room for real layers that are all zero.
_MOST_EXPANSION = 64
_FREE_BYTES = 2**30


def check_expansion(shape: tuple[int, ...], itemsize: int, held: int, where: str) -> None:
    """Raise CorruptFileError where `held` bytes of a file claim to be a tensor that is out of proportion to them."""
    if math.prod(shape) * itemsize > _MOST_EXPANSION * held + _FREE_BYTES:
        sizes = " x ".join(map(str, shape))
        raise CorruptFileError(f"{held} bytes claim to be a weight of {sizes}", where=where)
