"""The tables of a report, as text cells: the terminal and the HTML page show the same ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from simulator.report.data_table import DataTable
from simulator.report.text import area, bytes_text, count, energy, number, percent, rate, seconds, si
from simulator.result import AreaItem, Result, ScopeResult, TechnologyPoint

__all__ = [
    "DECISIONS",
    "DataTable",
    "area_table",
    "assumption_line",
    "conditions",
    "decisions",
    "distinct",
    "tables_of",
]

SCOPES = ("attention", "linear", "other", "total")
# The fields of a workload that a pruning run decides, as `Workload.kinds` names them.
DECISIONS = {
    "tokens": "tokens",
    "heads": "heads",
    "values": "V rows",
    "lsb": "low-bit queries",
    "bits": "bit widths",
}


def distinct(results: Sequence[Result]) -> list[Result]:
    """Return the results with names that differ: one design may have run with pruning and without, or changed."""
    off = ", pruning off"
    names = [result.design + (" (pruning off)" if result.schedule.endswith(off) else "") for result in results]
    plain = {result.design for result, name in zip(results, names, strict=True) if name == result.design}
    named: list[Result] = []
    for result, name in zip(results, names, strict=True):
        if result.design not in plain:  # nothing to tell it apart from
            name = result.design
        if names.count(name) > 1:
            name = f"{name} ({result.schedule})"
        taken = sum(other.design == name or other.design.startswith(f"{name} #") for other in named)
        named.append(dataclasses.replace(result, design=f"{name} #{taken + 1}" if taken else name))
    return named


def decisions(result: Result, kind: str) -> list[str]:
    """Return the pruning decisions of the workload that are of one kind, in words."""
    names = (field.name.rpartition(".")[2] for field in result.inputs if field.kind == kind)
    return list(dict.fromkeys(DECISIONS[name] for name in names if name in DECISIONS))


def assumption_line(results: Sequence[Result]) -> str:
    """Return what the first line of every report says: whether the pruning decisions are assumed, and by what."""
    first = results[0]
    assumed, published = decisions(first, "assumed"), decisions(first, "published")
    measured = decisions(first, "measured")
    if assumed and measured:
        return f"ASSUMED: {', '.join(assumed)} (schedule: {first.schedule}); MEASURED: {', '.join(measured)}"
    if assumed:
        return f"ASSUMED: {', '.join(assumed)} by schedule {first.schedule}, not measured on an input"
    if published:
        return f"PUBLISHED: {', '.join(published)} by schedule {first.schedule}, not measured on an input"
    return f"MEASURED: tokens, heads and bits are those of a real run ({first.schedule})"


def conditions(result: Result) -> str:
    """Return fidelity, clock, node and supply in words."""
    said = f"{result.fidelity} model, {result.clock_ghz:g} GHz"
    if result.technology is None:
        return said
    used = result.technology.used
    said += f", {used.logic_vdd:.3g} V" if used.node_nm is None else f", {used.node_nm:g} nm, {used.logic_vdd:.3g} V"
    return said + (", rescaled" if result.technology.rescaled else "")


def tables_of(result: Result) -> tuple[DataTable, ...]:
    """Return every table of one design that has rows."""
    made = (
        _scopes(result),
        _units(result),
        _streams(result),
        _latencies(result),
        _energy(result),
        _area(result),
        _technology(result),
        _rules(result),
        _unmodelled(result),
        _layers(result),
        _inputs(result),
    )
    return tuple(table for table in made if table.rows)


def _scopes(result: Result) -> DataTable:
    rows = []
    for name in SCOPES:
        scope = result.scopes.get(name)
        if scope is not None and scope.modelled_by != "none":
            rows.append((name, scope.modelled_by, *_scope_cells(scope)))
    left_out = [name for name in SCOPES[:3] if result.scopes[name].modelled_by == "not modelled"]
    note = f"no total: {' and '.join(left_out)} not modelled" if left_out else ""
    columns = ("scope", "run by", "cycles", "time", "by closed form", "operations", "if dense")
    moved = ("DRAM useful", "fetched", "energy", "share of ops", "of bytes")
    return DataTable("Scopes", (*columns, *moved), tuple(rows), note, "ll" + "r" * 10)


def _scope_cells(scope: ScopeResult) -> tuple[str, ...]:
    modelled = scope.modelled_by == "design"
    return (
        count(scope.cycles),
        seconds(scope.time_s),
        seconds(scope.analytical_s),
        count(scope.operations),
        count(scope.operations_dense),
        bytes_text(scope.dram_useful_bytes if modelled else None),
        bytes_text(scope.dram_fetched_bytes if modelled else None),
        energy(scope.energy_pj),
        percent(scope.operations_share),
        percent(scope.bytes_share),
    )


def _units(result: Result) -> DataTable:
    total = sum(unit.busy_cycles for unit in result.units.values()) and result_cycles(result)

    def share(cycles: int | None) -> str:
        return percent(None if cycles is None or not total else cycles / total)

    rows = (
        (
            name,
            percent(unit.busy),
            *(share(cycles) for cycles in (unit.starved_cycles, unit.blocked_cycles, unit.idle_cycles)),
            count(unit.busy_cycles),
            count(unit.operations),
            energy(unit.energy_pj),
        )
        for name, unit in result.units.items()
    )
    columns = ("unit", "busy", "starved", "blocked", "idle", "busy cycles", "operations", "energy")
    note = "starved: it waited for work; blocked: it could not go on; idle: it had nothing left to do"
    return DataTable("Units", columns, tuple(rows), note if result.units else "")


def result_cycles(result: Result) -> int:
    """Return the cycles of everything that the design ran."""
    return sum(layer.cycles or 0 for layer in result.layers)


def _streams(result: Result) -> DataTable:
    rows = (
        (
            name,
            "write" if stream.writes else "read",
            bytes_text(stream.useful_bytes),
            bytes_text(stream.fetched_bytes),
            percent(stream.useful_bytes / stream.fetched_bytes if stream.fetched_bytes else None),
            count(stream.bursts),
            count(stream.activations),
            percent(stream.row_hit_rate),
            rate(stream.achieved_gbps, "B/s"),
            percent(stream.share_of_peak),
        )
        for name, stream in result.streams.items()
    )
    columns = (
        "source",
        "",
        "useful",
        "fetched",
        "useful share",
        "bursts",
        "activations",
        "row hits",
        "rate",
        "of peak",
    )
    return DataTable("DRAM traffic", columns, tuple(rows), align="ll" + "r" * 8)


def _latencies(result: Result) -> DataTable:
    rows = []
    for name, stream in result.streams.items():
        mean, highest = stream.read_latency_ns, stream.read_latency_max_ns
        parts = (mean, stream.read_latency_p50_ns, stream.read_latency_p99_ns, highest)
        if mean is not None:
            rows.append((name, *(si(None if ns is None else ns * 1e-9, "s") for ns in parts)))
    note = "from the controller taking a burst to the end of its data" if rows else ""
    return DataTable("Read latency", ("source", "mean", "median", "99 % within", "longest"), tuple(rows), note)


def _energy(result: Result) -> DataTable:
    total = result.energy_pj
    rows: list[tuple[str, ...]] = [
        (
            name,
            item.group,
            energy(item.energy_pj),
            percent(item.energy_pj / total if total else None),
            f"{energy(item.low_pj)} to {energy(item.high_pj)}" if _has_range(item.low_pj, item.high_pj) else "",
            item.kind,
            item.source,
        )
        for name, item in sorted(result.energy.items(), key=lambda pair: -pair[1].energy_pj)
    ]
    if rows:
        rows.append(("total", "", energy(total), "", "", "", ""))
    columns = ("component", "group", "energy", "share", "range of the constants", "kind", "source of the constants")
    return DataTable("Energy", columns, tuple(rows), align="llrrlll", brief=4)


def _area(result: Result) -> DataTable:
    """By unit; the parts are in the JSON and in `simulate show ARCH`."""
    units: dict[str, list[AreaItem]] = {}
    for item in result.area:
        units.setdefault(item.component.partition(".")[0], []).append(item)
    total = sum(item.mm2 for item in result.area)
    rows = [
        (name, area(sum(i.mm2 for i in items)), percent(sum(i.mm2 for i in items) / total), _sources(items))
        for name, items in units.items()
    ]
    if rows:
        rows.append(("total", area(total), "", ""))
    return DataTable("Area", ("unit", "area", "share", "source"), tuple(rows), align="lrrl", brief=3)


def _sources(items: Iterable[AreaItem]) -> str:
    return "; ".join(dict.fromkeys(item.source for item in items))


def area_table(items: Sequence[AreaItem]) -> DataTable:
    """Return every part with its area and source."""
    rows = [(item.component, area(item.mm2), str(item.kind), item.source) for item in items]
    rows.append(("total", area(sum(item.mm2 for item in items)), "", ""))
    return DataTable("Area", ("part", "area", "kind", "source"), tuple(rows), align="lrll")


def _technology(result: Result) -> DataTable:
    """The design's own technology, and beside it the one that was asked for."""
    technology = result.technology
    if technology is None:
        return DataTable("Technology", (), ())
    points = (technology.native, technology.used) if technology.rescaled else (technology.native,)
    cells = [_technology_cells(point) for point in points]
    rows = tuple((name, *(cell[name] for cell in cells)) for name in cells[0])
    outside = [rule.name for rule in technology.rules if rule.extrapolated]
    note = f"EXTRAPOLATED beyond the published nodes: {', '.join(outside)}" if outside else ""
    return DataTable("Technology", ("", "native", "rescaled")[: 1 + len(points)], rows, note)


def _rules(result: Result) -> DataTable:
    """How constants follow from the nodes that they are published for."""
    if result.technology is None or not result.technology.rules:
        return DataTable("Rules between nodes", (), ())
    rules = result.technology.rules
    rows = tuple((rule.name, rule.rule, f"{rule.low_nm:g} to {rule.high_nm:g} nm", rule.source) for rule in rules)
    return DataTable("Rules between nodes", ("of", "rule", "published for", "source"), rows, align="llll", brief=3)


def _technology_cells(point: TechnologyPoint) -> dict[str, str]:
    groups = ("logic", "sram", "dram")
    return {
        "node": "as published" if point.node_nm is None else f"{point.node_nm:g} nm",
        "supply of logic, SRAM": f"{point.logic_vdd:.3g} V, {point.sram_vdd:.3g} V",
        "clock": f"{point.clock_ghz:g} GHz",
        "time": seconds(point.time_s),
        **{f"{group} energy": energy(point.energy_pj.get(group, 0.0)) for group in groups},
        **{f"{group} power": si(point.power_w.get(group, 0.0), "W") for group in groups},
        "area": "not modelled" if point.area_mm2 is None else area(point.area_mm2),
    }


def _has_range(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low < high


def _unmodelled(result: Result) -> DataTable:
    rows = (
        (
            item.name,
            count(item.count),
            count(item.operations),
            percent(item.operations_share),
            bytes_text(item.bytes),
            percent(item.bytes_share),
            item.reason,
        )
        for item in result.not_modelled
    )
    columns = ("op", "times in the workload", "operations", "share", "bytes", "share", "reason")
    note = "none of these is in the times and energies above" if result.not_modelled else ""
    return DataTable("Not modelled", columns, tuple(rows), note, "lrrrrrl", brief=6)


def _layers(result: Result) -> DataTable:
    rows = (
        (
            "-" if layer.layer is None else str(layer.layer),
            layer.scope,
            count(layer.cycles),
            seconds(layer.time_s),
            number(layer.context_mean),
            number(layer.tokens_mean),
            number(layer.heads_mean),
            count(layer.operations),
            bytes_text(layer.dram_fetched_bytes),
            energy(layer.energy_pj),
            layer.bottleneck or "",
        )
        for layer in result.layers
    )
    columns = (
        "layer",
        "scope",
        "cycles",
        "time",
        "tokens",
        "kept",
        "heads kept",
        "operations",
        "DRAM fetched",
        "energy",
        "bottleneck",
    )
    note = "means over the ops of a layer; the bottleneck is the unit that was busy for most of its cycles"
    return DataTable("Layers", columns, tuple(rows), note, "ll" + "r" * 8 + "l")


def _inputs(result: Result) -> DataTable:
    rows = ((field.name, str(field.value), field.kind, field.source) for field in result.inputs)
    return DataTable("Inputs", ("input", "value", "kind", "source"), tuple(rows), align="llll")
