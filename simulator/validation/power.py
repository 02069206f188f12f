"""Measures of power."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Literal

from simulator.result import EnergyItem, Result
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure
from simulator.validation.speed import seconds

__all__ = ["calibrated_watt", "watt"]

# What the paper counts: row activations, reads and writes (section V-A). Refresh and standby are in ours besides.
COUNTED_DRAM = ("dram.activation", "dram.movement", "dram.io")

# The energies of a design by module of Fig. 13. Leakage and the clocks of idle units are in none.
MODULE_ENERGY = {
    "qk": ("logic.qk", "sram.key"),
    "pv": ("logic.pv", "sram.value"),
    "softmax": ("logic.softmax", "logic.importance"),
    "topk": ("logic.topk", "logic.topk_value"),
    "fetcher": ("logic.wires", "sram.fetch_fifo"),
}


def _items_watt(result: Result, items: Iterable[EnergyItem]) -> float:
    """Return the power of some items over the time of attention."""
    return fsum(item.energy_pj for item in items) * 1e-12 / seconds(result)


def watt(result: Result, *groups: str) -> float:
    """Return the power of energy groups ("dram", "sram", "logic")."""
    return _items_watt(result, (item for item in result.energy.values() if item.group in groups))


@measure
def dram_watt(bench: Bench, cases: list[str], design: str) -> Measured:
    """Mean over the cases of the power of activations, data movement and I/O."""
    results = [bench.run(case, design) for case in cases]
    counted = [[result.energy[name] for name in COUNTED_DRAM] for result in results]
    values = [_items_watt(result, items) for result, items in zip(results, counted)]
    energy = fsum(item.energy_pj for items in counted for item in items) * 1e-12
    low = [fsum(i.low_pj or i.energy_pj for i in items) for items in counted]
    high = [fsum(i.high_pj or i.energy_pj for i in items) for items in counted]
    times, count = [seconds(result) for result in results], len(results)
    parts = [Part.of(case, value) for case, value in zip(cases, values)]
    parts.append(Part.of("pooled over time", energy / fsum(times)))
    least, most = (fsum(e * 1e-12 / t for e, t in zip(side, times)) / count for side in (low, high))
    parts.append(Part("range of the published constants", least, most))
    parts.append(Part.of("with refresh and standby", fsum(watt(result, "dram") for result in results) / count))
    return Measured.of(fsum(values) / count, "arithmetic mean over the schedules", tuple(parts))


@measure
def on_chip_watt(bench: Bench, case: str, design: str, elsewhere: list[str]) -> Measured:
    """Logic and SRAM from cited energies per operation; `elsewhere`: cases at other activities, printed beside."""
    parts = [Part.of(other, watt(bench.run(other, design), "logic", "sram")) for other in elsewhere]
    return Measured.of(watt(bench.run(case, design), "logic", "sram"), f"at the activity of {case}", tuple(parts))


@measure
def group_watt(bench: Bench, case: str, design: str, group: Literal["logic", "sram"]) -> Measured:
    """One of the two parts of the on-chip power."""
    return Measured.of(watt(bench.run(case, design), group), f"at the activity of {case}")


def _over(values: dict[str, float]) -> Measured:
    """Return the interval that the cases span, each of them beside it."""
    parts = tuple(Part.of(case, value) for case, value in values.items())
    return Measured(min(values.values()), max(values.values()), parts=parts)


@measure
def total_watt(bench: Bench, cases: list[str], design: str) -> Measured:
    """Everything, from the least to the most of the cases."""
    return _over({case: watt(bench.run(case, design), "logic", "sram", "dram") for case in cases})


@measure
def module_watt(
    bench: Bench, cases: list[str], design: str, module: Literal["qk", "pv", "softmax", "topk", "fetcher"]
) -> Measured:
    """One module of the paper's Fig. 13, from the least to the most of the cases."""
    results = {case: bench.run(case, design) for case in cases}
    names = MODULE_ENERGY[module]
    return _over({case: _items_watt(r, (r.energy[name] for name in names)) for case, r in results.items()})


def calibrated_watt(bench: Bench, result: Result) -> dict[str, float]:
    """Return the power of logic and SRAM with the constants calibrated on the full size, and that of the DRAM."""
    return {
        "logic": bench.constant("logic-power") * watt(result, "logic"),
        "SRAM": bench.constant("sram-power") * watt(result, "sram"),
        "DRAM": watt(result, "dram"),
    }


@measure
def scaled_design_watt(bench: Bench, case: str, design: str) -> Measured:
    """Power of a design of another size, with the constants calibrated on the full size."""
    found = calibrated_watt(bench, bench.run(case, design))
    parts = tuple(Part.of(name, value) for name, value in found.items())
    return Measured.of(fsum(found.values()), f"at the activity of {case}", parts)
