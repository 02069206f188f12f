"""On-chip energy of SpAtten: counted events times published energies per operation, and SRAM leakage times time."""

from __future__ import annotations

from simulator.designs.spatten.machine import Machine
from simulator.designs.spatten.settings import SpAttenSettings
from simulator.engine.interface import Cost, Energy
from simulator.tech import constant, sram_macro

__all__ = ["multiply_add_pj", "on_chip_energy"]

EXPONENT_ORDER = 5  # Taylor polynomial, section IV-D
DIVIDER_BITS = 16  # RTL: fixed-point divider


def multiply_add_pj(settings: SpAttenSettings) -> float:
    """Energy of a multiply-add: e_mul(8) x (b / 8)^2 + e_add(8) x 2 b / 8, in pJ.

    A multiplier's area and energy grow with the square of its width b, an adder's linearly; products are summed at 2 b bits.
    """
    width = settings.array.element_bits / 8
    multiply = constant(settings.energy.multiply_8bit, "energy").value * width * width
    return multiply + constant(settings.energy.add_8bit, "energy").value * 2 * width


def _probability_pj(settings: SpAttenSettings) -> float:
    """Energy of one probability: scale, exponent by Horner's rule, accumulate, divide by shift and subtract."""
    multiply = constant(settings.energy.fp32_multiply, "energy").value
    add = constant(settings.energy.fp32_add, "energy").value
    subtract = constant(settings.energy.add_8bit, "energy").value * DIVIDER_BITS / 8
    return multiply + EXPONENT_ORDER * (multiply + add) + add + DIVIDER_BITS * subtract


def on_chip_energy(machine: Machine, cost: Cost, clock_ghz: float) -> dict[str, Energy]:
    """Return the energy of SpAtten's own parts for the events of `cost`; formulas in docs/simulator.md."""
    settings, events = machine.settings, cost.events
    source = constant(settings.energy.multiply_8bit, "energy").source
    compare = constant(settings.energy.add_8bit, "energy").value * settings.array.element_bits / 8
    accumulate = constant(settings.energy.add_32bit, "energy").value
    mac = multiply_add_pj(settings)

    def logic(pj: float) -> Energy:
        return Energy.plain(pj, "logic", source)

    sram, fifo = machine.sram, settings.energy
    macro = sram_macro(fifo.sram_table, fifo.fifo_macro_bytes, fifo.fifo_port_bits, "energy.fifo_macro_bytes")
    fifo_pj = events.get("fetched_bits", 0.0) / fifo.fifo_port_bits * (macro.read_pj + macro.write_pj)
    leakage = 2 * sram.leakage_mw() * cost.cycles / clock_ghz  # mW x ns = pJ

    def memory(pj: float) -> Energy:
        return Energy.plain(pj, "sram", sram.macro.source)

    return {
        "logic.qk": logic(events.get("qk_macs", 0.0) * mac),
        "logic.softmax": logic(events.get("probabilities", 0.0) * _probability_pj(settings)),
        "logic.topk": logic(events.get("comparisons", 0.0) * compare),
        "logic.pv": logic(events.get("pv_macs", 0.0) * mac),
        "logic.importance": logic(events.get("importance_adds", 0.0) * accumulate),
        "sram.key": memory(
            sram.write_pj(events.get("key_bits_written", 0.0)) + sram.read_pj(events.get("key_bits_read", 0.0))
        ),
        "sram.value": memory(
            sram.write_pj(events.get("value_bits_written", 0.0)) + sram.read_pj(events.get("value_bits_read", 0.0))
        ),
        "sram.fetch_fifo": memory(fifo_pj),
        "sram.leakage": memory(leakage),
    }
