"""The zero eliminator: moves the items that are left to the front of a word."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ZeroEliminator"]


@dataclass(frozen=True, slots=True)
class ZeroEliminator:
    """A prefix sum of the zeros before each of `width` items, then log2(width) layers that shift by 1, 2, 4, ...

    One word a cycle; SpAtten, section IV.
    """

    width: int

    @property
    def latency(self) -> int:
        """Cycles through the unit: one for the prefix sum and one for each shift layer."""
        return 1 + (self.width - 1).bit_length()
