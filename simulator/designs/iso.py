"""Equal resources (`--iso`): the settings that give a design the multipliers, bandwidth and SRAM of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.config import validate
from simulator.designs.registry import Resolved, make, resolve
from simulator.engine.interface import Design
from simulator.engine.resources import BANDWIDTH, MULTIPLIERS, SRAM
from simulator.errors import ConfigError

__all__ = ["Equalised", "equalised"]

_WORDS = {MULTIPLIERS: "{:,.0f} multipliers", BANDWIDTH: "{:,.4g} GB/s", SRAM: "{:,.0f} bytes of SRAM"}


@dataclass(frozen=True, slots=True)
class Equalised:
    """The settings to change, and what is to be said of it: what is equal now, and what is not."""

    changes: dict[str, Any]
    notes: tuple[str, ...]


def equalised(
    arch: str | Resolved,
    base: str,
    changes: Mapping[str, Any] | None = None,
    base_changes: Mapping[str, Any] | None = None,
    memory: str | None = None,
) -> Equalised:
    """Return what gives `arch` the resources of `base`.

    Parameters
    ----------
    changes, base_changes: the settings that are asked for anyway, of each. memory: of both, instead of their own.

    Raises
    ------
    As `simulator.designs.registry.make` for both; ConfigError where a key would be set by the user and by this.
    """
    wanted, _ = make(base, base_changes, memory)
    own, resolved = make(arch, changes, memory)
    settings = validate(resolved.design.settings_model, resolved.document)
    found = _memory(own, resolved, wanted, resolve(base, base_changes)) if memory is None else {}
    for name, resource in own.resources.items():
        if name in wanted.amounts and wanted.amounts[name] != own.amounts[name]:
            found |= resource.changes(settings, wanted.amounts[name])
    if twice := sorted(found.keys() & (changes or {}).keys()):
        raise ConfigError(
            f"{twice[0]} is set to equal {base}, and by --set",
            where=f"--iso {base} and --set {twice[0]}",
            hint=f"leave one of them out, or change {base} itself: --set {base}:KEY=VALUE",
        )
    now, _ = make(arch, {**(changes or {}), **found}, memory)
    return Equalised(found, (_equal(now, wanted, base, found), *_unequal(now, wanted, base)))


def _memory(own: Design, mine: Resolved, wanted: Design, theirs: Resolved) -> dict[str, Any]:
    """Return the DRAM section of `base`: equal bandwidth of another kind of memory would not be an equal memory."""
    if BANDWIDTH in own.resources:  # the design has a number for it, and no DRAM to exchange
        return {}
    if "dram" not in mine.document.data or "dram" not in theirs.document.data:  # a processor is what it is
        return {}
    if (own.memory_name, own.amounts[BANDWIDTH]) == (wanted.memory_name, wanted.amounts[BANDWIDTH]):
        return {}
    old, new = mine.document.data["dram"], theirs.document.data["dram"]
    return {f"dram.{key}": new.get(key) for key in {**old, **new} if new.get(key) != old.get(key)}


def _equal(now: Design, wanted: Design, base: str, found: Mapping[str, Any]) -> str:
    same = [words.format(now.amounts[name]) for name, words in _WORDS.items() if _agree(now, wanted, name)]
    how = ", ".join(f"{key}={value}" for key, value in found.items())
    return f"equal to {base}: {', '.join(same) or 'nothing'}" + (f" ({how})" if how else "")


def _agree(now: Design, wanted: Design, name: str) -> bool:
    return name in now.amounts and now.amounts[name] == wanted.amounts.get(name)


def _unequal(now: Design, wanted: Design, base: str) -> list[str]:
    """Return what could not be made equal, and what is not made equal: clock and node."""
    said = []
    for name, words in _WORDS.items():
        if _agree(now, wanted, name):
            continue
        if name not in wanted.amounts:
            said.append(f"not equalised: {base} does not say its {name}")
        elif name not in now.amounts:
            said.append(f"not equalised: no setting of the design gives its {name}")
        else:
            amounts = words.format(now.amounts[name]), words.format(wanted.amounts[name])
            why = now.resources[name].fixed if name in now.resources else ""
            said.append(f"not equalised: {amounts[0]} instead of {amounts[1]}: {why or 'the nearest it can have'}")
    if now.clock_ghz != wanted.clock_ghz:
        said.append(f"not equalised: a clock of {now.clock_ghz:g} GHz, {base} has {wanted.clock_ghz:g} GHz")
    nodes = [design.technology.settings.node_nm for design in (now, wanted)]
    if nodes[0] != nodes[1]:
        here, there = ("as published" if node is None else f"{node:g} nm" for node in nodes)
        said.append(f"not equalised: node {here}, {base} has {there}")
    return said
