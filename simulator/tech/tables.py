"""Reading the constants tables: every number comes with its unit, its source and, where known, its spread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field

from simulator.config import load_yaml, validate
from simulator.errors import ConfigError, nearest
from simulator.settings import Settings
from simulator.workload.ir import Kind

__all__ = ["Constant", "SramMacro", "constant", "sram_family", "sram_macro", "table_names"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A number with its unit and source; `low` and `high` span the published values, equal to it where there is one.

    nodes: the value by process node in nm, ascending; empty where the source names no node. scales_as: the constant
    whose ratio between nodes it follows where it is published for one node only.
    """

    value: float
    low: float
    high: float
    unit: str
    source: str
    kind: Kind
    nodes: tuple[tuple[float, float], ...] = ()
    scales_as: str = ""


@dataclass(frozen=True, slots=True)
class SramMacro:
    """One SRAM macro: capacity in bytes, port width in bits, energy per access in pJ, leakage in mW, area in mm2.

    given: the sources of what the user gives instead of the table's, "read", "write" and "area".
    """

    bytes: int
    bits: int
    read_pj: float
    write_pj: float
    leakage_mw: float
    source: str
    area_mm2: float = 0.0
    node_nm: float | None = None
    given: tuple[tuple[str, str], ...] = ()

    def source_of(self, *names: str) -> str:
        """Return where some of "read", "write" and "area" come from."""
        given = dict(self.given)
        return "; ".join(dict.fromkeys(given.get(name, self.source) for name in names))


class _Entry(Settings):
    value: float = Field(ge=0)
    low: float | None = Field(None, ge=0)
    high: float | None = Field(None, ge=0)
    interval: str = ""  # where `low` and `high` come from, if not from the table's source
    at: dict[int, float] = Field(default_factory=dict, description="the value at other nodes, by nm")
    scales_as: str = ""  # "table.name" whose ratio between nodes this follows
    unit: Literal["pJ", "pJ/bit", "pJ/mm", "mW", "mW/mm2", "um2", "V", "1"]


class _Macro(Settings):
    bytes: int = Field(gt=0)
    bits: int = Field(gt=0)
    read_pj: float = Field(gt=0)
    write_pj: float = Field(gt=0)
    leakage_mw: float = Field(ge=0)
    area_mm2: float = Field(ge=0)


class _Table(Settings):
    source: str
    kind: Kind
    family: str = ""  # tables of one name in `family` hold the same macros at other nodes
    node_nm: float | None = Field(None, gt=0)
    vdd: float | None = Field(None, gt=0)
    at_source: str = ""  # where the values at other nodes come from, if not from the table's source
    constants: dict[str, _Entry] = Field(default_factory=dict)
    macros: list[_Macro] = Field(default_factory=list)


def _folder() -> Path:
    return Path(str(resources.files("simulator") / "tech" / "tables"))


def table_names() -> list[str]:
    """Return the names of the shipped tables."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def _table(name: str, where: str) -> _Table:
    if name not in table_names():
        raise ConfigError(f"unknown constants table {name!r}", where=where, hint=nearest(name, table_names()))
    return _read(name)


@lru_cache(maxsize=64)
def _read(name: str) -> _Table:
    return validate(_Table, load_yaml(_folder() / f"{name}.yaml"))


@lru_cache(maxsize=256)
def constant(reference: str, where: str = "", unit: str = "") -> Constant:
    """Return a constant by "table.name", for example "horowitz2014.int8_add".

    Raises
    ------
    ConfigError: unknown table or name, or a constant in another unit than `unit`; `where` says who asked.
    """
    table_name, _, name = reference.partition(".")
    table = _table(table_name, where)
    entry = table.constants.get(name)
    if entry is None:
        choices = [f"{table_name}.{key}" for key in table.constants]
        raise ConfigError(f"unknown constant {reference!r}", where=where, hint=nearest(reference, choices))
    if unit and entry.unit != unit:
        raise ConfigError(f"{reference} is in {entry.unit}", where=where, expected=f"a constant in {unit}")
    low = entry.value if entry.low is None else entry.low
    high = entry.value if entry.high is None else entry.high
    source = "; ".join(filter(None, (table.source, entry.interval, table.at_source if entry.at else "")))
    nodes: dict[float, float] = dict(entry.at.items())
    if table.node_nm is not None:
        nodes[table.node_nm] = entry.value
    points = tuple(sorted(nodes.items()))
    return Constant(entry.value, low, high, entry.unit, source, table.kind, points, entry.scales_as)


def sram_family(table_name: str, where: str = "") -> list[str]:
    """Return the tables with the macros of `table_name` at other nodes, itself included, the smallest node first."""
    family = _table(table_name, where).family
    tables = [name for name in table_names() if family and _table(name, where).family == family]
    return sorted(tables, key=lambda name: _table(name, where).node_nm or 0.0) or [table_name]


def sram_macro(table_name: str, size: int, bits: int, where: str = "") -> SramMacro:
    """Return the macro of `size` bytes with a `bits` wide port: a row of the table, never an interpolation.

    Raises
    ------
    ConfigError: unknown table, or no such row (the sizes that exist are listed).
    """
    table = _table(table_name, where)
    for row in table.macros:
        if (row.bytes, row.bits) == (size, bits):
            numbers = (row.read_pj, row.write_pj, row.leakage_mw)
            return SramMacro(row.bytes, row.bits, *numbers, table.source, row.area_mm2, table.node_nm)
    known = ", ".join(f"{row.bytes} B x {row.bits} bit" for row in table.macros)
    raise ConfigError(f"no SRAM macro of {size} B with a {bits} bit port", where=where, expected=f"one of {known}")
