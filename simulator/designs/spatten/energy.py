"""On-chip energy of SpAtten: events and busy cycles times published energies, leakage and idle clocks times time."""

from __future__ import annotations

from simulator.designs.spatten.floorplan import ACCUMULATOR_BITS, Floorplan
from simulator.designs.spatten.machine import Machine
from simulator.engine.interface import Cost, Energy
from simulator.tech import Silicon, Technology, constant
from simulator.units import Arithmetic

__all__ = ["OnChip"]

LOW_LEAKAGE = "a3_2020.sram_leakage_per_byte"


class OnChip:
    """The energies of one machine; formulas in docs/simulator.md."""

    def __init__(self, machine: Machine, clock_ghz: float) -> None:
        settings = machine.settings
        self.machine, self.clock_ghz = machine, clock_ghz
        self.technology = Technology(settings.technology)
        self.arithmetic = Arithmetic(settings.energy, self.technology)
        self.silicon = Silicon(settings.silicon, self.technology)
        self.floorplan = Floorplan(machine, self.silicon)
        self.areas = self.floorplan.areas()
        self._leakage = self.silicon.leakage(self.areas)
        self._wire = self.silicon.wire_pj_per_bit(self.floorplan.side_mm())
        self.energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    def energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy by component, calibrated where the settings ask for it."""
        found = self._logic(cost) | self._sram(cost) | self._standing(cost)
        if self.silicon.settings.calibration == "none":
            return found
        return {name: self._calibrated(energy) for name, energy in found.items()}

    def _calibrated(self, energy: Energy) -> Energy:
        factor = constant(f"{self.silicon.settings.calibration}.{energy.group}", "silicon.calibration", "1")
        pj, low, high = (value * factor.value for value in (energy.pj, energy.low_pj, energy.high_pj))
        source = f"{energy.source}; times {factor.value:g}, {factor.source}"
        return Energy(pj, energy.group, source, factor.kind, low, high)

    def _logic(self, cost: Cost) -> dict[str, Energy]:
        """Datapaths: operations, and the registers of a unit while it works."""
        events, arithmetic = cost.events, self.arithmetic
        multiply_add = arithmetic.multiply_add_pj(self.machine.settings.array.element_bits)
        compare = arithmetic.add_pj(self.machine.settings.array.element_bits)
        register = self.silicon.register_pj().value

        def unit(name: str, event: str, pj: float) -> Energy:
            clocked = self.floorplan.registers[name] * cost.busy_cycles.get(name, 0) * register
            return Energy.plain(events.get(event, 0.0) * pj + clocked, "logic", arithmetic.source)

        adds = events.get("importance_adds", 0.0) * arithmetic.add_pj(ACCUMULATOR_BITS)
        moved = events.get("fetched_bits", 0.0)
        wire = self._wire
        return {
            "logic.qk": unit("qk", "qk_macs", multiply_add),
            "logic.softmax": unit("softmax", "probabilities", arithmetic.probability_pj()),
            "logic.topk": unit("topk", "comparisons", compare),
            "logic.topk_value": unit("topk_value", "value_comparisons", compare),
            "logic.pv": unit("pv", "pv_macs", multiply_add),
            "logic.importance": Energy.plain(adds, "logic", arithmetic.source),
            "logic.wires": Energy(
                moved * wire.value, "logic", wire.source, wire.kind, moved * wire.low, moved * wire.high
            ),
        }

    def _sram(self, cost: Cost) -> dict[str, Energy]:
        sram, events, fifo = self.machine.sram, cost.events, self.floorplan.fifo_macro
        passed = events.get("fetched_bits", 0.0) / fifo.bits

        def buffer(name: str) -> Energy:
            written, read = (events.get(f"{name}_bits_{way}", 0.0) for way in ("written", "read"))
            source = sram.macro.source_of("read", "write")
            return Energy.plain(sram.write_pj(written) + sram.read_pj(read), "sram", source)

        return {
            "sram.key": buffer("key"),
            "sram.value": buffer("value"),
            "sram.fetch_fifo": Energy.plain(
                passed * (fifo.read_pj + fifo.write_pj), "sram", fifo.source_of("read", "write")
            ),
        }

    def _standing(self, cost: Cost) -> dict[str, Energy]:
        """What time costs: leakage (mW x ns = pJ) and the clocks of idle units."""
        time_ns, plan, sram = cost.cycles / self.clock_ghz, self.floorplan, self.machine.sram
        macros = 2 * sram.leakage_mw() + plan.fifo_macros * plan.fifo_macro.leakage_mw  # K and V, FIFOs
        held = 2 * sram.settings.bytes + plan.fetch_fifo_bytes + plan.topk_fifo_bytes
        least, logic = constant(LOW_LEAKAGE), self._leakage
        idle = sum(bits * max(0, cost.cycles - cost.busy_cycles.get(name, 0)) for name, bits in plan.registers.items())
        source = f"{sram.macro.source}; low: {least.source}"
        return {
            "logic.idle_clocks": Energy.plain(
                idle * self.silicon.idle_register_pj(), "logic", self.silicon.register_pj().source
            ),
            "logic.leakage": Energy(
                logic.value * time_ns, "logic", logic.source, logic.kind, logic.low * time_ns, logic.high * time_ns
            ),
            "sram.leakage": Energy(
                macros * time_ns,
                "sram",
                source,
                "published",
                min(macros, held * least.value) * time_ns,
                macros * time_ns,
            ),
        }
