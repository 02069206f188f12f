"""On-chip energy of SpAtten: counted events times published energies per operation, and SRAM leakage times time."""

from __future__ import annotations

from simulator.designs.spatten.machine import Machine
from simulator.engine.interface import Cost, Energy
from simulator.tech import sram_macro
from simulator.units import Arithmetic

__all__ = ["on_chip_energy"]

ACCUMULATOR_BITS = 32  # importance scores


def on_chip_energy(machine: Machine, cost: Cost, clock_ghz: float) -> dict[str, Energy]:
    """Return the energy of SpAtten's own parts for the events of `cost`; formulas in docs/simulator.md."""
    settings, events = machine.settings, cost.events
    arithmetic = Arithmetic(settings.energy)
    bits = settings.array.element_bits

    def logic(name: str, pj: float) -> Energy:
        return Energy.plain(events.get(name, 0.0) * pj, "logic", arithmetic.source)

    sram = machine.sram
    fifo = sram_macro(settings.fifo.table, settings.fifo.macro_bytes, settings.fifo.port_bits, "fifo")
    fifo_pj = events.get("fetched_bits", 0.0) / settings.fifo.port_bits * (fifo.read_pj + fifo.write_pj)
    leakage_pj = 2 * sram.leakage_mw() * cost.cycles / clock_ghz  # K and V; mW x ns = pJ

    def buffer(name: str) -> Energy:
        pj = sram.write_pj(events.get(f"{name}_bits_written", 0.0)) + sram.read_pj(events.get(f"{name}_bits_read", 0.0))
        return Energy.plain(pj, "sram", sram.macro.source)

    return {
        "logic.qk": logic("qk_macs", arithmetic.multiply_add_pj(bits)),
        "logic.softmax": logic("probabilities", arithmetic.probability_pj()),
        "logic.topk": logic("comparisons", arithmetic.add_pj(bits)),
        "logic.topk_value": logic("value_comparisons", arithmetic.add_pj(bits)),
        "logic.pv": logic("pv_macs", arithmetic.multiply_add_pj(bits)),
        "logic.importance": logic("importance_adds", arithmetic.add_pj(ACCUMULATOR_BITS)),
        "sram.key": buffer("key"),
        "sram.value": buffer("value"),
        "sram.fetch_fifo": Energy.plain(fifo_pj, "sram", fifo.source),
        "sram.leakage": Energy.plain(leakage_pj, "sram", sram.macro.source),
    }
