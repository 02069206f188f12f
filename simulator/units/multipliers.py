"""An array of multipliers with adder trees: Q x K^T and probabilities x V."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MultiplierArray"]


@dataclass(frozen=True, slots=True)
class MultiplierArray:
    """`multipliers` in groups that each take one row (a key or a value vector) a cycle.

    SpAtten, section IV: 512 multipliers and an adder tree that gives 512 / D results a cycle, at most 8. A group
    is therefore at least 512 / 8 = 64 lanes wide; heads of another size take the next power of two, and the lanes
    beyond the head size stand idle (head size 32: half of them).

    Parameters
    ----------
    multipliers: a power of two. minimum_lanes: lanes of the narrowest group.
    """

    multipliers: int
    minimum_lanes: int = 64

    def lanes(self, head_dim: int) -> int:
        """Lanes that one row of `head_dim` elements occupies."""
        return max(self.minimum_lanes, 1 << (head_dim - 1).bit_length())

    def rows_per_cycle(self, head_dim: int) -> int:
        """Rows taken each cycle: multipliers / lanes; 0 for a row wider than the array."""
        return self.multipliers // self.lanes(head_dim)

    def cycles(self, rows: int, head_dim: int) -> int:
        """Cycles for one query: ceil(rows / rows_per_cycle); a row wider than the array is folded."""
        width = self.rows_per_cycle(head_dim)
        if width == 0:
            return rows * -(-self.lanes(head_dim) // self.multipliers)
        return -(-rows // width)

    def score_latency(self, head_dim: int) -> int:
        """Cycles from the last operand to its score: SRAM, multiplier, and one per level of the tree over the lanes.

        1 + 1 + log2(64) = 8 for head size 64 (registered levels of SpAtten's released RTL).
        """
        return 2 + (self.lanes(head_dim) - 1).bit_length()

    def output_latency(self, head_dim: int) -> int:
        """Cycles from the last V row to the output: SRAM, multiplier, the tree over the rows, and the accumulator."""
        return 3 + (max(self.rows_per_cycle(head_dim), 1) - 1).bit_length()
