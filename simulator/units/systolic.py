"""A weight-stationary systolic array."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SystolicArray"]


@dataclass(frozen=True, slots=True)
class SystolicArray:
    """`rows` x `columns` multipliers; a tile of the second operand is held while rows of the first stream through.

    One tile with M streamed rows takes M + rows + columns - 2 cycles from the first operand to the last result. Tiles
    that follow each other overlap: the next tile is loaded beside the stream of this one (double-buffered registers,
    `rows` cycles), so that a tile occupies the array for max(M, rows) cycles and only the last one drains.
    Formula: the systolic timing of SCALE-Sim (Samajdar et al., ISPASS 2020), weight-stationary.
    """

    rows: int
    columns: int

    @property
    def multipliers(self) -> int:
        """Multiply-adds per cycle at most."""
        return self.rows * self.columns

    def tiles(self, inner: int, outputs: int) -> int:
        """Tiles of an [inner x outputs] operand."""
        return -(-inner // self.rows) * -(-outputs // self.columns)

    def occupied_cycles(self, streamed: int, inner: int, outputs: int) -> int:
        """Cycles that an [streamed x inner] x [inner x outputs] product keeps the array."""
        return self.tiles(inner, outputs) * max(streamed, self.rows)

    def drain_cycles(self) -> int:
        """Cycles from the last streamed row to its last result."""
        return self.rows + self.columns - 2

    def tile_cycles(self, streamed: int) -> int:
        """Cycles of one tile alone: M + rows + columns - 2."""
        return streamed + self.drain_cycles()
