"""The tables of a replayed trace and of a memory, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from simulator.memory.energy import EnergyRow
from simulator.memory.result import ReplayResult, ReplayStream
from simulator.report.tables import DataTable
from simulator.report.terminal import print_table
from simulator.report.text import bytes_text, count, energy, percent, rate, seconds, si

__all__ = ["constants_table", "parameters_table", "print_replay", "replay_tables", "summary_line"]

ROW_HIT = "row hit: a burst that is not the first one after an activation of its row"
_SHARES = "useful: distinct bytes that were asked for; fetched: whole bursts; of peak: over the time of the whole trace"
_LATENCY = "from the controller taking a read to the end of its data"
_RANKS = ("mean", "median", "99 %", "longest")


def summary_line(result: ReplayResult) -> str:
    """Return what ran on what."""
    said = f"{result.trace} on {result.memory}: {count(result.requests)} requests, {count(result.bursts)} bursts"
    return f"{said} in {ns_text(result.time_ns)}"


def ns_text(value: float) -> str:
    """Return a time given in ns."""
    return seconds(value * 1e-9)


def replay_tables(result: ReplayResult) -> tuple[DataTable, ...]:
    """Return the tables that answer what the trace cost; empty ones are left out."""
    made = (_totals(result), _streams(result), _latency(result), _energy(result))
    return tuple(table for table in made if table.rows)


def _totals(result: ReplayResult) -> DataTable:
    peak = f"{percent(result.share_of_peak)} of {rate(result.peak_gb_per_s, 'B/s')}"
    latency = zip(_RANKS, _latencies(result), strict=True)
    rows = [
        ("time", ns_text(result.time_ns)),
        ("bandwidth", f"{rate(result.gb_per_s, 'B/s')}, {peak}"),
        ("data bus in use", percent(result.bus_fraction)),
        ("useful bytes of the peak", percent(result.useful_fraction)),
        ("bursts read, written", f"{count(result.reads)}, {count(result.writes)}"),
        ("bursts not sent: merged, absorbed", f"{count(result.merged)}, {count(result.absorbed)}"),
        ("row-hit rate", percent(result.row_hit_rate)),
        ("activates, precharges", f"{count(result.activates)}, {count(result.precharges)}"),
        ("refreshes", count(result.refreshes)),
        ("read latency", ", ".join(f"{name} {ns_text(ns)}" for name, ns in latency)),
    ]
    if result.energy_pj is not None:
        between = f"({energy(result.energy_pj_low)} to {energy(result.energy_pj_high)})"
        rows.append(("energy", f"{energy(result.energy_pj)} {between}"))
        rows.append(("energy per bit fetched", si((result.energy_pj_per_bit or 0.0) * 1e-12, "J")))
    return DataTable("Totals", ("", result.memory), tuple(rows), ROW_HIT, "ll")


def _streams(result: ReplayResult) -> DataTable:
    rows = (
        (
            name,
            count(stream.requests),
            bytes_text(stream.useful_bytes),
            bytes_text(stream.fetched_bytes),
            percent(stream.useful_bytes / stream.fetched_bytes if stream.fetched_bytes else None),
            percent(stream.row_hit_rate),
            rate(stream.gb_per_s, "B/s"),
            percent(stream.share_of_peak),
        )
        for name, stream in result.streams.items()
    )
    columns = ("stream", "requests", "useful", "fetched", "useful share", "row hits", "rate", "of peak")
    return DataTable("Streams", columns, tuple(rows), _SHARES)


def _latency(result: ReplayResult) -> DataTable:
    rows = (
        (name, *(ns_text(ns) for ns in _latencies(stream)))
        for name, stream in result.streams.items()
        if stream.read_latency_max_ns  # writes have none
    )
    return DataTable("Read latency", ("stream", *_RANKS), tuple(rows), _LATENCY)


def _latencies(of: ReplayResult | ReplayStream) -> tuple[float, ...]:
    return of.read_latency_ns, of.read_latency_p50_ns, of.read_latency_p99_ns, of.read_latency_max_ns


def _energy(result: ReplayResult) -> DataTable:
    total = result.energy_pj or 0.0
    rows: list[tuple[str, ...]] = [
        (
            name.replace("_", " "),
            energy(part.energy_pj),
            percent(part.energy_pj / total if total else None),
            _interval(energy(part.low_pj), energy(part.high_pj)),
            part.kind,
            part.source,
        )
        for name, part in result.energy.items()
    ]
    if rows:
        interval = _interval(energy(result.energy_pj_low), energy(result.energy_pj_high))
        rows.append(("total", energy(total), "", interval, "", ""))
    columns = ("part", "energy", "share", "range of published constants", "kind", "source")
    return DataTable(f"Energy ({result.energy_model})", columns, tuple(rows), align="lrrlll", brief=5)


def _interval(low: str, high: str) -> str:
    return "" if low == high else f"{low} to {high}"


def constants_table(memory: str, model: str, constants: Sequence[EnergyRow]) -> DataTable:
    """Return the energy table of a memory: each constant, how often it is spent, and its source."""
    rows = (
        (
            row.part.replace("_", " "),
            row.formula,
            row.constant,
            f"{row.value:.4g}",
            _interval(f"{row.low:.4g}", f"{row.high:.4g}"),
            row.unit,
            row.kind,
            row.source,
        )
        for row in constants
    )
    columns = ("part", "energy", "constant", "value", "published range", "unit", "kind", "source")
    return DataTable(f"Energy constants of {memory} ({model})", columns, tuple(rows), align="lllrllll")


def parameters_table(
    title: str, parameters: Mapping[str, str], remarks: Mapping[str, str] | None = None, note: str = ""
) -> DataTable:
    """Return all parameters of a memory, with what its file says beside each."""
    if remarks is None:
        return DataTable(title, ("parameter", "value"), tuple(parameters.items()), note, "ll")
    rows = ((name, value, remarks.get(name, "default")) for name, value in parameters.items())
    return DataTable(title, ("parameter", "value", "source"), tuple(rows), note, "lll")


def print_replay(result: ReplayResult, console: Console, details: bool = False) -> None:
    """Print the tables of a replay; `details` adds sources, constants and parameters."""
    console.print(summary_line(result), style="bold", markup=False, soft_wrap=True)
    console.print(result.description, markup=False, soft_wrap=True)
    console.print()
    for table in replay_tables(result):
        print_table(table, console, details)
    if details:
        if result.energy_model is not None:
            print_table(constants_table(result.memory, result.energy_model, result.constants), console)
        print_table(parameters_table(f"Parameters of {result.memory}", result.parameters), console)
    for text in result.assumptions:
        console.print(f"assumption: {text}", markup=False, soft_wrap=True)
