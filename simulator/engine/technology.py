"""What a run says about area and technology: the design's own node, supply and clock beside those asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from simulator.designs.registry import Resolved, make
from simulator.engine.accounting import Ledger
from simulator.engine.interface import Design
from simulator.errors import ConfigError
from simulator.result import AreaItem, RuleResult, TechnologyPoint, TechnologyResult
from simulator.tech import scaling_rules
from simulator.workload.ir import Workload

__all__ = ["area_items", "native_run", "operating_point", "rescaled", "technology_result"]

KEYS = {"node": "technology.node_nm", "vdd": "technology.vdd", "clock_ghz": "clock_ghz"}


def operating_point(
    changes: Mapping[str, Any] | None,
    node: float | None,
    vdd: float | None,
    clock_ghz: float | None,
    extrapolate: bool,
) -> dict[str, Any]:
    """Return the settings that stand for the options; nothing where none was given.

    Raises
    ------
    ConfigError: one of them is in `changes` as well.
    """
    given = {KEYS[name]: value for name, value in (("node", node), ("vdd", vdd), ("clock_ghz", clock_ghz))}
    asked: dict[str, Any] = {key: float(value) for key, value in given.items() if value is not None}
    if twice := asked.keys() & (changes or {}).keys():
        option = next(name for name, key in KEYS.items() if key in twice)
        raise ConfigError(f"{KEYS[option]} is given twice", where=f"--{option.replace('_', '-')} and --set")
    return asked | ({"technology.extrapolate": True} if extrapolate else {})


def rescaled(asked: Mapping[str, Any], native: Resolved, used: Resolved) -> bool:
    """Return whether a node, supply or clock was asked for that is not the design's own."""
    values = ({item.name: item.value for item in resolved.parameters} for resolved in (native, used))
    before, after = values
    return any(before.get(key) != after.get(key) for key in asked.keys() & set(KEYS.values()))


def native_run(
    workload: Workload,
    used: Ledger,
    arch: str | Resolved,
    changes: Mapping[str, Any] | None,
    memory: str | None,
    seed: int,
) -> Ledger:
    """Return the same run at the design's own node, supply and clock; at an equal clock nothing is simulated again."""
    design, _ = make(arch, changes, memory, seed)
    design.use(used.design.fidelity)
    if design.clock_ghz == used.design.clock_ghz:
        design.share_costs(used.design)
    ledger = Ledger(workload, design, used.host)
    ledger.run()
    return ledger


def technology_result(used: Ledger, native: Ledger) -> TechnologyResult:
    """Return both points; `used` and `native` are one where nothing was rescaled."""
    node = used.design.technology.settings.node_nm
    rules = tuple(
        RuleResult(
            rule.name,
            rule.rule,
            rule.low_nm,
            rule.high_nm,
            node is not None and not rule.low_nm <= node <= rule.high_nm,
            rule.source,
        )
        for rule in scaling_rules()
    )
    return TechnologyResult(point_of(used), point_of(native), used is not native, rules)


def point_of(ledger: Ledger) -> TechnologyPoint:
    """Return what a run came to at its node, supply and clock."""
    design, energies = ledger.design, defaultdict[str, float](float)
    for energy in ledger.energies.values():
        energies[energy.group] += energy.pj
    settings = design.technology.settings
    seconds = design.seconds(ledger.cycles)
    return TechnologyPoint(
        node_nm=settings.node_nm,
        logic_vdd=settings.vdd or design.technology.nominal_vdd("logic"),
        sram_vdd=settings.vdd or design.technology.nominal_vdd("sram"),
        clock_ghz=design.clock_ghz,
        time_s=seconds,
        energy_pj=dict(energies),
        power_w={group: pj * 1e-12 / seconds if seconds else 0.0 for group, pj in energies.items()},
        area_mm2=sum(area.mm2 for area in design.areas()) if design.areas() else None,
    )


def area_items(design: Design) -> tuple[AreaItem, ...]:
    """Return the design's parts."""
    return tuple(AreaItem(area.component, area.mm2, area.source, area.kind) for area in design.areas())
