"""`--energy-table`: the constants of a design that Accelergy's tables give instead of the published ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.designs.registry import Resolved, make
from simulator.engine.interface import Cost
from simulator.errors import ConfigError, UnsupportedError, nearest
from simulator.exchange.accelergy import Entry, ReferenceTables, read_tables
from simulator.tech import GIVEN, asked_constants, given_text

__all__ = ["Replaced", "constants_of", "replaced_constants"]


@dataclass(frozen=True, slots=True)
class Replaced:
    """The setting that replaces constants, the source of each for who reads the parameters, and what is to be said."""

    changes: dict[str, Any]
    sources: dict[str, str]
    notes: tuple[str, ...]


def constants_of(
    arch: str | Resolved, changes: Mapping[str, Any] | None = None, memory: str | None = None
) -> dict[str, str]:
    """Return the names of the constants of a design that a table can give, with their units; raises as `make`."""
    with asked_constants() as asked:
        design, _ = make(arch, changes, memory)
        design.energy(Cost(0))
        design.areas()
    return {name: unit for name, unit in sorted(asked.items()) if unit.startswith("pJ") or unit == "um2"}


def replaced_constants(
    arch: str | Resolved,
    paths: Sequence[str | os.PathLike[str]],
    changes: Mapping[str, Any] | None = None,
    memory: str | None = None,
) -> Replaced:
    """Return what makes a design use the tables in `paths`.

    An entry stands for the constant that `map` names; else for the one whose name its own ends with, part by part:
    system.chip.sram[0..3] with the action read for sram.read, the area of system.chip.sram for sram.area.

    Raises
    ------
    As `read_tables` and `make`; ConfigError: `map` names an entry that no table has, or several entries fit a name.
    UnsupportedError: no entry stands for a constant of the design.
    """
    tables, constants = read_tables(paths), constants_of(arch, changes, memory)
    found, strange = _mapped(tables, constants)
    found |= _by_name(tables, constants, found)
    name = arch if isinstance(arch, str) else str(arch.document.data["name"])
    files = ", ".join(map(str, paths))
    if not found:
        raise UnsupportedError(
            f"no entry of the tables stands for a constant of {name}",
            where=f"--energy-table {files}",
            expected=f"one of {', '.join(constants)}" if constants else f"{name} has no constant of its own to replace",
            hint="; ".join(strange) or "name the constants in a section map: {COMPONENT.ACTION: CONSTANT}",
        )
    texts, sources = {}, {}
    for constant, (entry, times) in found.items():
        source = f"{entry.file}: {entry.name}" + (f" x {times:g}" if times != 1 else "")
        texts[constant] = given_text(entry.value * times, constants[constant], source)
        sources[f"technology.constants.{constant}"] = GIVEN + source
    used = {entry.name for entry, _ in found.values()}
    notes = [
        f"{GIVEN}{files}: {len(found)} of {len(constants)} constants are from it: {_listed(found)}",
        f"constants of {name} that the table does not give: {_listed(set(constants) - set(found))}",
        f"entries of the table that {name} does not use: {_listed(set(tables.entries) - used)}",
        *strange,
    ]
    return Replaced({"technology.constants": texts}, sources, tuple(notes))


def _mapped(tables: ReferenceTables, constants: Mapping[str, str]) -> tuple[dict[str, tuple[Entry, float]], list[str]]:
    """Return what `map` says of this design's constants, and in sentences what it says of none."""
    found: dict[str, tuple[Entry, float]] = {}
    strange = []
    for name, target in tables.map.items():
        entries = tables.named(name)
        if not entries:
            hint = nearest(name, tables.entries)
            raise ConfigError(f"no table has an entry {name!r}", where="energy table, map", hint=hint)
        unit = constants.get(target.constant)
        if unit is None:
            strange.append(
                f"map: {target.constant} is no constant of the design: {nearest(target.constant, constants)}"
            )
            continue
        if target.constant in found:
            raise ConfigError(f"two entries are mapped to {target.constant}", where="energy table, map")
        entry = _only(entries, name)
        if entry.unit != unit.partition("/")[0]:
            raise ConfigError(f"{target.constant} is in {unit}, {name} in {entry.unit}", where="energy table, map")
        found[target.constant] = (entry, target.times)
    return found, strange


def _by_name(
    tables: ReferenceTables, constants: Mapping[str, str], mapped: Mapping[str, tuple[Entry, float]]
) -> dict[str, tuple[Entry, float]]:
    taken = {entry.name for name in tables.map for entry in tables.named(name)}
    found: dict[str, tuple[Entry, float]] = {}
    for constant, unit in constants.items():
        if constant not in mapped:
            entries = [entry for entry in tables.named(constant, unit) if entry.name not in taken]
            if entries:
                found[constant] = (_only(entries, constant), 1.0)
    return found


def _only(entries: Sequence[Entry], name: str) -> Entry:
    if len(entries) > 1:
        raise ConfigError(
            f"several entries are named {name!r}: {_listed(entry.name for entry in entries)}",
            where="energy table",
            hint="name one of them in full, in a section map: {COMPONENT.ACTION: CONSTANT}",
        )
    return entries[0]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
