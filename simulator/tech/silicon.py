"""Area of parts, leakage of logic, and what registers and wires take: counts times published constants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from simulator.settings import Settings
from simulator.tech.tables import Constant, SramMacro
from simulator.tech.technology import AS_PUBLISHED, Technology
from simulator.workload.ir import Kind

__all__ = ["Area", "Silicon", "SiliconSettings", "tree_bits"]

TABLE_BITS = 32  # width of the published multiplier and adder
MUX_GATES = 3  # two-input gates of a 2:1 multiplexer: two ANDs and an OR
CHARGING_BITS = 0.25  # of random bits, a half differ from the one before, and a half of these charge the wire


class SiliconSettings(Settings):
    """Constants ("table.name"), and the share of an idle unit's registers whose clock is stopped."""

    multiply_32bit: str
    add_32bit: str
    fp32_multiply: str
    fp32_add: str
    register_bit: str
    gate: str
    register_energy: str
    register_clock_energy: str
    leakage: str
    wire: str
    clock_gated: float = Field(ge=0, le=1)
    calibration: str = Field("none", description="a table of factors on logic and SRAM, or none")


@dataclass(frozen=True, slots=True)
class Area:
    """Area of one part in mm2; `logic_mm2`: of its logic at the node of the constants, which its leakage follows."""

    component: str
    mm2: float
    source: str
    kind: Kind
    logic_mm2: float = 0.0


@dataclass(frozen=True, slots=True)
class Silicon:
    """The constants at one technology."""

    area_note: ClassVar[str] = "bottom-up; control, clock tree and wiring are not counted"

    settings: SiliconSettings
    technology: Technology = AS_PUBLISHED

    def _constant(self, name: str, unit: str) -> Constant:
        supply: Literal["logic", "sram"] = "sram" if name == "wire" else "logic"  # CACTI's devices drive the wires
        return self.technology.constant(getattr(self.settings, name), f"silicon.{name}", unit, supply)

    def _logic(self, component: str, terms: Iterable[tuple[str, float]]) -> Area:
        """Return the area of so many of the constants of each name."""
        names = dict(terms)
        found = {name: self._constant(name, "um2") for name in names}
        here = sum(found[name].value * count for name, count in names.items())
        original = Silicon(self.settings, self.technology.unscaled())
        there = sum(original._constant(name, "um2").value * count for name, count in names.items())
        source = next((constant.source for constant in found.values()), "")
        kind: Kind = next((constant.kind for constant in found.values()), "published")
        return Area(component, here * 1e-6, source, kind, there * 1e-6)

    def multipliers(self, component: str, count: float, bits: int) -> Area:
        """Return count x A_mul(32) (bits / 32)^2."""
        return self._logic(component, [("multiply_32bit", count * (bits / TABLE_BITS) ** 2)])

    def adders(self, component: str, count: float, bits: int) -> Area:
        """Return count x A_add(32) bits / 32: adders and comparators."""
        return self._logic(component, [("add_32bit", count * bits / TABLE_BITS)])

    def floating(self, component: str, multiplies: float, adds: float) -> Area:
        """Return the area of so many fp32 multipliers and adders."""
        return self._logic(component, [("fp32_multiply", multiplies), ("fp32_add", adds)])

    def registers(self, component: str, bits: float) -> Area:
        """Return bits x A_register."""
        return self._logic(component, [("register_bit", bits)])

    def multiplexers(self, component: str, count: float) -> Area:
        """Return count x 3 A_gate: one-bit 2:1 multiplexers, of two ANDs and an OR."""
        return self._logic(component, [("gate", count * MUX_GATES)])

    @staticmethod
    def sram(component: str, macro: SramMacro, count: float) -> Area:
        """Return count x the macro's area; part of a macro counts as that part."""
        kind: Kind = "assumed" if "area" in dict(macro.given) else "published"
        return Area(component, count * macro.area_mm2, macro.source_of("area"), kind)

    def leakage(self, areas: Iterable[Area]) -> Constant:
        """Return the leakage in mW of the logic in `areas`: density x area at the constants' own node."""
        density, area = self._constant("leakage", "mW/mm2"), sum(item.logic_mm2 for item in areas)
        return Constant(
            density.value * area, density.low * area, density.high * area, "mW", density.source, density.kind
        )

    def register_pj(self) -> Constant:
        """Return the energy of a register bit in a cycle in which its unit works."""
        return self._constant("register_energy", "pJ")

    def idle_register_pj(self) -> float:
        """Return the energy of a register bit in a cycle in which its unit idles: its clock, unless that is stopped."""
        return self._constant("register_clock_energy", "pJ").value * (1 - self.settings.clock_gated)

    def wire_pj_per_bit(self, mm: float) -> Constant:
        """Return the energy of a random bit over `mm` millimetres: a quarter of the bits charge the wire."""
        found, scale = self._constant("wire", "pJ/mm"), CHARGING_BITS * mm
        return Constant(found.value * scale, found.low * scale, found.high * scale, "pJ/bit", found.source, found.kind)


def tree_bits(inputs: float, levels: int, width: int) -> float:
    """Return the register bits of an adder tree: its level i holds inputs / 2^i sums of width + i bits."""
    return sum(inputs / float(1 << level) * (width + level) for level in range(1, levels + 1))
