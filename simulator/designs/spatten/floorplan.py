"""What SpAtten is made of: area part by part and register bits unit by unit, from its settings.

Every count follows from a parameter, so that doubling a unit moves it. Not counted: control, clock tree, power grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2, sqrt

from simulator.designs.spatten.machine import Machine
from simulator.tech import Area, Silicon, SramMacro
from simulator.tech.silicon import tree_bits
from simulator.units.arithmetic import DIVIDER_BITS, EXPONENT_ORDER

__all__ = ["ACCUMULATOR_BITS", "Floorplan"]

ACCUMULATOR_BITS = 32  # importance scores, outputs of prob x V, values in the softmax (fp32)
ADDRESS_BITS = 64  # SpAtten paper, section IV: address FIFOs of 8 byte words


@dataclass(frozen=True)
class Floorplan:
    """The parts of a machine at one technology."""

    machine: Machine
    silicon: Silicon

    @property
    def _bits(self) -> int:
        return self.machine.settings.array.element_bits

    @property
    def _multipliers(self) -> int:
        return self.machine.settings.array.multipliers

    @property
    def _rows(self) -> int:
        """Rows that an array takes in a cycle, at most."""
        return max(1, self._multipliers // self.machine.settings.array.minimum_lanes)

    @property
    def _ids(self) -> int:
        """Bits that number a key on chip."""
        sram = self.machine.sram
        return ceil(log2(max(2, sram.lines_per_buffer * self._rows)))

    @cached_property
    def registers(self) -> dict[str, float]:
        """Register bits by unit: operands, products and tree levels; softmax stages; words of the top-k engines."""
        settings, bits, count = self.machine.settings, self._bits, self._multipliers
        lane_levels = max(0, int(log2(max(1, count / self._rows))))
        operands, product = 2 * count * bits, 2 * count * bits
        accumulators = count / self._rows * ACCUMULATOR_BITS
        softmax, word = self.machine.softmax, settings.topk.parallelism * (bits + self._ids)
        engine = 2.0 * word * (1 + ceil(log2(max(2, settings.topk.parallelism))))
        return {
            "qk": operands + product + tree_bits(count, lane_levels, 2 * bits),
            "softmax": float(softmax.latency * softmax.settings.parallelism * ACCUMULATOR_BITS),
            "topk": engine,
            "topk_value": engine,
            "pv": operands + product + tree_bits(count, int(log2(self._rows)), 2 * bits) + accumulators,
        }

    @property
    def fetch_fifo_bytes(self) -> int:
        """Address and data FIFOs of the fetcher."""
        fetcher = self.machine.settings.fetcher
        return fetcher.lanes * fetcher.fifo_depth * (ADDRESS_BITS // 8 + fetcher.word_bytes)

    @property
    def topk_fifo_bytes(self) -> float:
        """FIFO_L and FIFO_R of both engines: values and key numbers."""
        topk = self.machine.settings.topk
        return 2 * 2 * topk.fifo_depth * topk.parallelism * (self._bits + self._ids) / 8

    @property
    def fifo_macro(self) -> SramMacro:
        """The macro that FIFOs are made of."""
        fifo = self.machine.settings.fifo
        return self.silicon.technology.macro(fifo.table, fifo.macro_bytes, fifo.port_bits, "fifo")

    @property
    def fifo_macros(self) -> float:
        """Macros of all FIFOs, parts of one included."""
        return (self.fetch_fifo_bytes + self.topk_fifo_bytes) / self.machine.settings.fifo.macro_bytes

    def areas(self) -> tuple[Area, ...]:
        """Return every part."""
        sram, silicon = self.machine.sram, self.silicon
        buffers = [silicon.sram(f"{name}.sram", sram.macro, sram.macros) for name in ("key", "value")]
        return (*self._arrays(), *self._softmax(), *self._topk(), *self._fetcher(), *buffers)

    def side_mm(self) -> float:
        """Side of a square of the whole area: how far data travel from the DRAM's pins to the SRAM (ours)."""
        return sqrt(sum(area.mm2 for area in self.areas()))

    def _arrays(self) -> list[Area]:
        silicon, bits, count = self.silicon, self._bits, self._multipliers
        parts = []
        for name in ("qk", "pv"):
            parts.append(silicon.multipliers(f"{name}.multipliers", count, bits))
            parts.append(silicon.adders(f"{name}.adders", count, 2 * bits))
            parts.append(silicon.registers(f"{name}.registers", self.registers[name]))
        return parts

    def _softmax(self) -> list[Area]:
        """A lane has what `Arithmetic.probability_pj` counts: scale, exponent, sum, and a divider of 16 subtractors."""
        lanes, silicon = self.machine.settings.softmax.parallelism, self.silicon
        importance = self._rows + self._multipliers / self._rows
        return [
            silicon.floating("softmax.floating_point", lanes * (1 + EXPONENT_ORDER), lanes * (1 + EXPONENT_ORDER)),
            silicon.adders("softmax.dividers", lanes * DIVIDER_BITS, DIVIDER_BITS),
            silicon.registers("softmax.registers", self.registers["softmax"]),
            silicon.adders("importance.adders", importance, ACCUMULATOR_BITS),
        ]

    def _topk(self) -> list[Area]:
        """Two engines: two comparator arrays, a zero eliminator behind each, FIFOs."""
        topk, silicon = self.machine.settings.topk, self.silicon
        shifts = topk.parallelism * ceil(log2(max(2, topk.parallelism))) * (self._bits + self._ids)
        fifos = self.topk_fifo_bytes / self.machine.settings.fifo.macro_bytes
        return [
            silicon.adders("topk.comparators", 2 * 2 * topk.parallelism, self._bits),
            silicon.multiplexers("topk.zero_eliminators", 2 * 2 * shifts),
            silicon.registers("topk.registers", self.registers["topk"] + self.registers["topk_value"]),
            silicon.sram("topk.fifos", self.fifo_macro, fifos),
        ]

    def _fetcher(self) -> list[Area]:
        """Crossbars of multiplexers: addresses from lanes to channels, data from channels to lanes."""
        fetcher, silicon = self.machine.settings.fetcher, self.silicon
        channels = self.machine.settings.dram.channels or fetcher.lanes
        requests = channels * (fetcher.lanes - 1) * ADDRESS_BITS
        data = fetcher.lanes * (channels - 1) * 8 * fetcher.word_bytes
        macros = self.fetch_fifo_bytes / self.machine.settings.fifo.macro_bytes
        return [
            silicon.multiplexers("fetcher.crossbars", requests + data),
            silicon.sram("fetcher.fifos", self.fifo_macro, macros),
        ]
