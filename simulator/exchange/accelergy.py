"""Energy and area reference tables (ERT, ART) of Accelergy, versions 0.3 and 0.4, and which constants they stand for.

Format as written by github.com/Accelergy-Project/accelergy: `ERT: {version, tables: [{name, actions: [{name, arguments,
energy}]}]}` in pJ, `ART: {version, tables: [{name, area}]}` in um^2; `units` says otherwise. Our own part is
`map: {COMPONENT.ACTION: CONSTANT}`, or `{constant: CONSTANT, times: FACTOR}` for an action of another width than ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from simulator.config import Document, load_yaml, validate
from simulator.errors import ConfigError, FormatVersionError, InvalidValueError, nearest
from simulator.settings import Settings, with_exponent

__all__ = ["Entry", "ReferenceTables", "Target", "read_tables"]

VERSIONS = ("0.3", "0.4")
_UNITS = {  # factor to pJ or um2
    "energy": {"aJ": 1e-6, "fJ": 1e-3, "pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12},
    "area": {"nm^2": 1e-6, "um^2": 1.0, "mm^2": 1e6, "m^2": 1e12},
}


_Number = Annotated[float, BeforeValidator(with_exponent), Field(ge=0)]


class _Theirs(Settings):
    """What Accelergy writes may have more keys than we read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class _Action(_Theirs):
    name: str
    energy: _Number


class _Energies(_Theirs):
    name: str
    actions: list[_Action]


class _Area(_Theirs):
    name: str
    area: _Number


class _Ert(_Theirs):
    version: str | float
    tables: list[_Energies]
    units: dict[str, str] = Field(default_factory=dict)


class _Art(_Theirs):
    version: str | float
    tables: list[_Area]
    units: dict[str, str] = Field(default_factory=dict)


class Target(Settings):
    """The constant that an action stands for, and how many actions make one of what the constant counts."""

    constant: str
    times: float = Field(1.0, gt=0)


class _File(_Theirs):
    ERT: _Ert | None = None
    ART: _Art | None = None
    map: dict[str, str | Target] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """An action of a component in pJ, or the area of a component in um2 (its name ends in ".area")."""

    name: str
    value: float
    unit: Literal["pJ", "um2"]
    file: str

    @property
    def path(self) -> tuple[str, ...]:
        """The name in parts and lower case, without the ranges of instances: system.PE[0..7].mac -> system, pe, mac."""
        return _path(self.name)


@dataclass
class ReferenceTables:
    """The entries of all files by name, and the map; of actions that differ in their arguments the dearest."""

    entries: dict[str, Entry] = field(default_factory=dict)
    map: dict[str, Target] = field(default_factory=dict)

    def named(self, name: str, unit: str = "") -> list[Entry]:
        """Return the entries whose name ends with `name`, part by part, in pJ (also "pJ/bit", ...) or um2."""
        wanted, kind = _path(name), unit.partition("/")[0]
        found = (entry for entry in self.entries.values() if entry.path[-len(wanted) :] == wanted)
        return [entry for entry in found if not kind or entry.unit == kind]


def _path(name: str) -> tuple[str, ...]:
    return tuple(re.sub(r"\[[^\]]*\]", "", name).lower().split("."))


def read_tables(paths: Iterable[str | os.PathLike[str]]) -> ReferenceTables:
    """Read the files; each has one or more of ERT, ART and map.

    Raises
    ------
    FileMissingError: no such file. ConfigError: not YAML, none of the three, a key that is missing, a value of the
    wrong type or below 0 (with its line). FormatVersionError: another version. InvalidValueError: an unknown unit, or a
    component that two files have.
    """
    result = ReferenceTables()
    for path in paths:
        document = load_yaml(path)
        if not document.data.keys() & {"ERT", "ART", "map"}:
            hint = nearest(str(next(iter(document.data), "")), ("ERT", "ART", "map"))
            raise ConfigError("the file has no table", where=str(path), expected="ERT, ART or map", hint=hint)
        file = validate(_File, document)
        _add_energies(result, file.ERT, document)
        _add_areas(result, file.ART, document)
        for name, target in file.map.items():
            result.map[name] = Target(constant=target, times=1.0) if isinstance(target, str) else target
    return result


def _add_energies(result: ReferenceTables, ert: _Ert | None, document: Document) -> None:
    if ert is None:
        return
    factor, file = _factor(ert.units, "energy", ert.version, ("ERT",), document), Path(document.where).name
    own: dict[str, Entry] = {}
    for table in ert.tables:
        for action in table.actions:
            name, value = f"{table.name}.{action.name}", action.energy * factor
            if name not in own or value > own[name].value:
                own[name] = Entry(name, value, "pJ", file)
    _add(result, own, document)


def _add_areas(result: ReferenceTables, art: _Art | None, document: Document) -> None:
    if art is None:
        return
    factor, file = _factor(art.units, "area", art.version, ("ART",), document), Path(document.where).name
    names = [f"{table.name}.area" for table in art.tables]
    areas = (Entry(name, table.area * factor, "um2", file) for name, table in zip(names, art.tables, strict=True))
    _add(result, {entry.name: entry for entry in areas}, document)


def _add(result: ReferenceTables, own: Mapping[str, Entry], document: Document) -> None:
    if twice := sorted(own.keys() & result.entries.keys()):
        raise InvalidValueError(f"{twice[0]} is in two files", where=document.where, expected="each component once")
    result.entries.update(own)


def _factor(units: Mapping[str, Any], kind: str, version: object, path: tuple[str, ...], document: Document) -> float:
    if str(version) not in VERSIONS:
        raise FormatVersionError(
            f"the {path[0]} is of version {version}",
            where=document.place((*path, "version")),
            expected=" or ".join(VERSIONS),
        )
    given = str(units.get(kind, "pJ" if kind == "energy" else "um^2"))
    if given not in _UNITS[kind]:
        raise InvalidValueError(
            f"unknown unit {given!r} of {kind}",
            where=document.place((*path, "units", kind)),
            expected=", ".join(_UNITS[kind]),
        )
    return _UNITS[kind][given]
