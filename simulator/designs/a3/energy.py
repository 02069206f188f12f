"""Energy and area of A3: the modules and SRAM of its Table I, each for what it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from simulator.designs.a3.settings import A3Settings
from simulator.engine.interface import Energy
from simulator.tech import AS_PUBLISHED, Area, Technology, TechnologySettings

__all__ = ["A3Silicon"]

TABLE = "a3_2020"
TABLE_KEYS, TABLE_DIM = 320, 64  # what the SRAM and the modules of Table I are built for
MODULES = {"dot_product": "dot_product", "exponent": "exponent", "output": "output"}
APPROXIMATE = {"search": "search", "post_scoring": "post_scoring"}
SRAM = {"key": "dot_product", "value": "output"}  # by the module that reads it
SORTED = {"sorted": "search"}
MACRO = ("cacti7_45nm", 16384, 128)  # SRAM follows the node as this macro does


@dataclass(frozen=True, slots=True)
class A3Silicon:
    """Constants of Table I at a technology; parts that the settings do without are not there."""

    settings: A3Settings
    technology: Technology

    @property
    def logic(self) -> dict[str, str]:
        """Modules, and the event that counts their work."""
        used = {"search": self.settings.search, "post_scoring": self.settings.post_scoring}
        return MODULES | {name: event for name, event in APPROXIMATE.items() if used[name] is not None}

    @property
    def sram(self) -> dict[str, str]:
        """SRAM, and the event that counts its reads."""
        return SRAM | (SORTED if self.settings.search is not None else {})

    def energy(self, events: Mapping[str, float], time_ns: float) -> dict[str, Energy]:
        """Return dynamic energy by part, for each cycle in which it works, and static energy; mW times ns is pJ."""
        found, static = {}, {"logic": 0.0, "sram": 0.0}
        wide = self.settings.size.head_dim / TABLE_DIM
        parts: list[tuple[Literal["logic", "sram"], str, str, str]] = [
            *(("logic", name, name, event) for name, event in self.logic.items()),
            *(("sram", name, f"{name}_sram", event) for name, event in self.sram.items()),
        ]
        source = ""
        for group, name, entry, event in parts:
            pj, source = self._value(group, entry, "pJ")
            static[group] += self._value(group, f"{entry}_static", "mW")[0] * self._size(group)
            found[f"{group}.{name}"] = Energy.plain(pj * wide * events.get(event, 0.0), group, source)
        found["logic.leakage"] = Energy.plain(static["logic"] * time_ns, "logic", source)
        found["sram.leakage"] = Energy.plain(static["sram"] * time_ns, "sram", source)
        return found

    def areas(self) -> tuple[Area, ...]:
        """Return the area of each part."""
        parts: list[tuple[Literal["logic", "sram"], str, str]] = [
            *(("logic", name, name) for name in self.logic),
            *(("sram", f"{name}.sram", f"{name}_sram") for name in self.sram),
        ]
        areas = []
        for group, name, entry in parts:
            um2, source = self._value(group, f"{entry}_area", "um2")
            areas.append(Area(name, um2 * self._size(group) * 1e-6, source, "published"))
        return tuple(areas)

    def _size(self, group: str) -> float:
        """Return how much larger than in Table I it is: SRAM with keys and D, multipliers with D, both with units."""
        size = self.settings.size
        wide = size.head_dim / TABLE_DIM * self.settings.units
        return wide * size.keys / TABLE_KEYS if group == "sram" else wide

    def _value(self, group: str, entry: str, unit: str) -> tuple[float, str]:
        """Return a constant and its source; that of an SRAM follows a macro of CACTI from 40 nm to another node."""
        if group == "logic":
            found = self.technology.constant(f"{TABLE}.{entry}", f"energy.{entry}", unit)
            return found.value, found.source
        given = self.technology.given(f"energy.{entry}", unit)
        if given is not None:
            return given.value, given.source
        found = AS_PUBLISHED.constant(f"{TABLE}.{entry}", unit=unit)
        field = {"pJ": "read_pj", "mW": "leakage_mw", "um2": "area_mm2"}[unit]
        native = Technology(TechnologySettings(node_nm=40.0, vdd=None))
        here, there = (getattr(tech.macro(*MACRO), field) for tech in (self.technology, native))
        return found.value * here / there, found.source
