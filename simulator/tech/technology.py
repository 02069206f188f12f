"""Published constants at another process node and supply: logic, SRAM and wires each follow their own published values.

Between two published nodes a value is interpolated geometrically: ln v is linear in ln node. Outside of them nothing is
returned unless extrapolation is asked for, which continues the line through the two nearest nodes. A constant that is
published for one node follows the ratio of the one it names (`scales_as`); SRAM macros follow CACTI's rows of the same
size and port, never the factor of logic. With another supply V than the nominal one V0 of the node, energies are
multiplied by (V / V0)^2 and leakage power by V / V0 (leakage current taken as constant: ours). Constants that the user
gives are of the user's node and supply: they are not rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pydantic import Field, field_validator

from simulator.errors import ConfigError, InvalidValueError
from simulator.settings import Settings
from simulator.tech.given import given_constant, note_asked
from simulator.tech.tables import Constant, SramMacro, constant, sram_family, sram_macro

__all__ = ["AS_PUBLISHED", "ScalingRule", "Technology", "TechnologySettings", "scaling_rules"]

Supply = Literal["logic", "sram"]
Points = Sequence[tuple[float, float]]


class TechnologySettings(Settings):
    """Process node in nm and supply in V; None: those of the published constants.

    constants: what the user gives instead of published ones, by name: "1.5 pJ from FILE: NAME".
    """

    node_nm: float | None = Field(None, ge=0.1, le=1e4)
    vdd: float | None = Field(None, ge=1e-3, le=100)
    extrapolate: bool = False
    constants: dict[str, str] = Field(default_factory=dict)

    @field_validator("constants")
    @classmethod
    def _readable(cls, constants: dict[str, str]) -> dict[str, str]:
        for text in constants.values():
            given_constant(text)
        return constants

    def __hash__(self) -> int:  # of a Technology, which is a key; equality looks at the constants as well
        return hash((self.node_nm, self.vdd, self.extrapolate, len(self.constants)))


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """How one kind of constant is rescaled, and the nodes in nm between which it is published."""

    name: str
    rule: str
    low_nm: float
    high_nm: float
    source: str


@dataclass(frozen=True, slots=True)
class Technology:
    """A node and a supply, at which constants and SRAM macros are given."""

    settings: TechnologySettings

    def constant(self, reference: str, where: str = "", unit: str = "", supply: Supply = "logic") -> Constant:
        """Return the constant that is given for `where`, or that of the tables at this node and supply.

        The interval of a published one is scaled with it.

        Raises
        ------
        ConfigError: as `simulator.tech.constant`. InvalidValueError: the node is outside the published ones.
        """
        return self.given(where, unit) or self._published(reference, where, unit, supply)

    def given(self, name: str, unit: str) -> Constant | None:
        """Return the constant that the user gives for a name; None: none.

        Raises
        ------
        ConfigError: it is in another unit.
        """
        note_asked(name, unit)
        text = self.settings.constants.get(name)
        if text is None:
            return None
        found = given_constant(text)
        if unit and found.unit != unit:
            raise ConfigError(f"{name} is in {unit}", where=f"technology.constants, {name}", expected=f"not {text!r}")
        return found

    def unscaled(self) -> Technology:
        """Return the published node and supply, with the same constants of the user's."""
        return Technology(TechnologySettings(node_nm=None, vdd=None, constants=self.settings.constants))

    @lru_cache(maxsize=1024)  # noqa: B019 - few of these exist, and they are values
    def _published(self, reference: str, where: str, unit: str, supply: Supply) -> Constant:
        found = constant(reference, where, unit)
        factor = self._node_factor(reference, found) * self._supply_factor(found.unit, supply, _own_node(found))
        return found if factor == 1 else _scaled(found, factor, self._label())

    def macro(self, table: str, size: int, bits: int, where: str = "") -> SramMacro:
        """Return the macro of `size` bytes with a `bits` wide port at this node and supply; raises as `constant`.

        What the user gives for `where`.read and .write (pJ of a port's width) and .area (um2 of a macro) stands instead
        of the table's; without `where` nothing can be given.
        """
        found = self._published_macro(table, size, bits, where)
        units = {"read": "pJ", "write": "pJ", "area": "um2"} if where else {}
        given = {name: c for name, unit in units.items() if (c := self.given(f"{where}.{name}", unit)) is not None}
        return _with_given(found, given) if given else found

    @lru_cache(maxsize=1024)  # noqa: B019
    def _published_macro(self, table: str, size: int, bits: int, where: str) -> SramMacro:
        found = sram_macro(table, size, bits, where)
        rows = [sram_macro(name, size, bits, where) for name in sram_family(table, where)]
        node = self.settings.node_nm or found.node_nm

        def at_node(field: str) -> float:
            points = [(row.node_nm or 0.0, float(getattr(row, field))) for row in rows]
            value = float(getattr(found, field))
            return value if node is None or node == found.node_nm else self._interpolate(points, node, table)

        dynamic, leakage = (self._supply_factor(unit, "sram", found.node_nm) for unit in ("pJ", "mW"))
        return replace(
            found,
            read_pj=at_node("read_pj") * dynamic,
            write_pj=at_node("write_pj") * dynamic,
            leakage_mw=at_node("leakage_mw") * leakage,
            area_mm2=at_node("area_mm2"),
            node_nm=node,
            source=found.source if node == found.node_nm and dynamic == 1 else f"{found.source}; {self._label()}",
        )

    def nominal_vdd(self, supply: Supply = "logic", own_node: float | None = None) -> float:
        """Return the supply that the constants hold for at this node."""
        found = constant(f"supply_nominal.{supply}")
        node = self.settings.node_nm or own_node
        return found.value if node is None else self._interpolate(found.nodes, node, f"supply_nominal.{supply}")

    def _node_factor(self, reference: str, found: Constant) -> float:
        node, own = self.settings.node_nm, _own_node(found)
        if node is None or own is None or node == own:
            return 1.0
        if len(found.nodes) == 1 and found.scales_as:
            points = constant(found.scales_as).nodes
            return self._interpolate(points, node, found.scales_as) / _on_line(points, own)
        return self._interpolate(found.nodes, node, reference) / found.value

    def _supply_factor(self, unit: str, supply: Supply, own_node: float | None) -> float:
        power = 2 if unit.startswith("pJ") else 1 if unit.startswith("mW") else 0
        if self.settings.vdd is None or not power:
            return 1.0
        return (self.settings.vdd / self.nominal_vdd(supply, own_node)) ** power

    def _interpolate(self, points: Points, node: float, what: str) -> float:
        low, high = points[0][0], points[-1][0]
        if not low <= node <= high and not (self.settings.extrapolate and len(points) > 1):
            raise InvalidValueError(
                f"{node:g} nm is outside the nodes for which {what} is published",
                where="--node",
                expected=f"{low:g} to {high:g} nm" if low < high else f"{low:g} nm",
                hint="--extrapolate continues the line through the two nearest nodes" if low < high else "",
            )
        return _on_line(points, node)

    def _label(self) -> str:
        node, vdd = self.settings.node_nm, self.settings.vdd
        parts = (f"{node:g} nm" if node else "", f"{vdd:g} V" if vdd else "")
        return "scaled to " + ", ".join(filter(None, parts))


AS_PUBLISHED = Technology(TechnologySettings(node_nm=None, vdd=None))


def _with_given(found: SramMacro, given: Mapping[str, Constant]) -> SramMacro:
    values = {
        "read_pj": given["read"].value if "read" in given else found.read_pj,
        "write_pj": given["write"].value if "write" in given else found.write_pj,
        "area_mm2": given["area"].value * 1e-6 if "area" in given else found.area_mm2,
    }
    sources = tuple((name, c.source) for name, c in given.items())
    return replace(found, **values, given=sources)  # type: ignore[arg-type]


def _own_node(found: Constant) -> float | None:
    """Return the node of `value`."""
    return next((node for node, value in found.nodes if value == found.value), None)


def _scaled(found: Constant, factor: float, label: str) -> Constant:
    value, low, high = found.value * factor, found.low * factor, found.high * factor
    return replace(found, value=value, low=low, high=high, source=f"{found.source}; {label}", nodes=(), scales_as="")


def _on_line(points: Points, node: float) -> float:
    """Return the value at `node`: geometric between the two nearest points, or beyond the last two."""
    if len(points) == 1:
        return points[0][1]
    right = next((i for i in range(1, len(points)) if node <= points[i][0]), len(points) - 1)
    (n0, v0), (n1, v1) = points[right - 1], points[right]
    share = math.log(node / n0) / math.log(n1 / n0)
    return math.exp(math.log(v0) + share * math.log(v1 / v0)) if v0 > 0 < v1 else v0 + share * (v1 - v0)


@lru_cache(maxsize=1)
def scaling_rules() -> tuple[ScalingRule, ...]:
    """Return the rules with the nodes between which they hold without extrapolation."""
    logic, area = constant("horowitz2014.int8_multiply"), constant("stillmaker2017.area")
    wire, macro = constant("cacti7_wires.charge_per_mm"), sram_macro("cacti7_45nm", 4096, 128)
    sram = [sram_macro(name, 4096, 128).node_nm or 0.0 for name in sram_family("cacti7_45nm")]

    def rule(name: str, text: str, nodes: Sequence[float], source: str) -> ScalingRule:
        return ScalingRule(name, text, min(nodes), max(nodes), source)

    return (
        rule(
            "arithmetic energy", "each operation between its own two values", [n for n, _ in logic.nodes], logic.source
        ),
        rule("registers, logic leakage", "as a 32-bit addition", [n for n, _ in logic.nodes], logic.source),
        rule("logic area", "area factors", [n for n, _ in area.nodes], area.source),
        rule("SRAM energy, leakage, area", "each macro between its own rows", sram, macro.source),
        rule("wire energy", "per millimetre between the rows", [n for n, _ in wire.nodes], wire.source),
    )
