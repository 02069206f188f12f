"""Linear layers on a systolic array: tiles from DRAM in double buffers, beside the folds of the array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from simulator.designs.systolic.tiling import Storage, Tiling, least_traffic
from simulator.memory import Traffic
from simulator.memory.stream import StreamTime
from simulator.units import SystolicArray
from simulator.units.systolic import Product

__all__ = ["LINEAR_READS", "LINEAR_WRITES", "Mapping", "Streaming"]

LINEAR_READS = ("weight", "activation", "sum_read")
LINEAR_WRITES = ("linear_output", "sum_write")


class Streaming(Protocol):
    """Times contiguous transfers."""

    def time(self, size: int, write: bool = False) -> StreamTime:
        """Return the cost of `size` contiguous bytes."""


@dataclass(frozen=True)
class Mapping:
    """One product [m x k] x [k x n] on the array.

    Tiles lie in DRAM one behind the other, so that each operand is a contiguous transfer. The array starts when what
    the first fold needs is there; everything else arrives beside the work; the last outputs leave behind it:

        cycles = first + max(array, DRAM - first - last) + last

    Parameters
    ----------
    tiling: a fixed one, or None for that with the least traffic.
    """

    whole: Product
    array: SystolicArray
    storage: Storage
    tiling: Tiling | None = None

    @cached_property
    def tiles(self) -> Tiling:
        """The tiling. Raises as `least_traffic`, or as `Tiling.check` for a fixed one."""
        if self.tiling is None:
            return least_traffic(self.whole, self.array, self.storage)
        tiling = self.tiling.within(self.whole)
        tiling.check(self.whole, self.array, self.storage)
        return tiling

    @cached_property
    def bytes(self) -> dict[str, int]:
        """Bytes of each stream."""
        return self.tiles.traffic(self.whole, self.storage)

    @cached_property
    def array_cycles(self) -> int:
        """Cycles of the array, if its operands are always there: those of SCALE-Sim where no streamed size is cut."""
        parts = list(self.tiles.parts(self.whole, self.array))
        occupied = sum(count * self.array.occupied_cycles(part) for count, part in parts)
        return max(occupied - self.array.occupied_cycles(parts[0][1]) + self.array.stall_free_cycles(parts[0][1]), 1)

    def accesses(self) -> dict[str, float]:
        """Return the bits of the buffer that are written and read, for the array and for the DRAM."""
        s, moved = self.storage, self.bytes
        read = written = 0.0
        parts = list(self.tiles.parts(self.whole, self.array))
        for count, part in parts:
            inputs, weights, out, again = self.array.accesses(part)
            read += count * (inputs * s.input_bits + weights * s.weight_bits + again * s.sum_bits)
            written += count * out * s.sum_bits
        blocks = sum(count for count, _ in parts)
        if self.array.dataflow == "os":  # what a block adds up is added to what the one before has left
            read += (blocks - 1) * self.whole[0] * self.whole[2] * s.sum_bits
        written += 8 * sum(moved[name] for name in LINEAR_READS)
        read += 8 * sum(moved[name] for name in LINEAR_WRITES)
        return {"bits_written": written, "bits_read": read}

    def moves(self, streaming: Streaming) -> dict[str, StreamTime]:
        """Return time and traffic of each stream that has any."""
        return {
            name: streaming.time(size, name in LINEAR_WRITES) if size else StreamTime(0, Traffic())
            for name, size in self.bytes.items()
        }

    def cycles(self, streaming: Streaming) -> tuple[int, int]:
        """Return the cycles of the product, and those of the DRAM in it."""
        dram = sum(move.cycles for move in self.moves(streaming).values())
        first, last = (streaming.time(-(-bits // 8), write).cycles for bits, write in self._edges())
        first, last = min(first, dram), min(last, dram)
        return first + max(self.array_cycles, dram - first - last) + last, dram

    def _edges(self) -> tuple[tuple[int, bool], tuple[int, bool]]:
        """Return (bits, written): what the first cycle of the first fold waits for, and what its last cycles leave."""
        s = self.storage
        m, k, n = (min(unit, size) for unit, size in zip(self.array.granule(), self.whole, strict=True))
        return (m * k * s.input_bits + k * n * s.weight_bits, False), (m * n * s.output_bits, True)
