"""Contexts larger than the SRAM: many equal blocks of queries, of which the first are simulated and the rest follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from simulator.designs.spatten.decide import Decisions
from simulator.designs.spatten.layout import Layout
from simulator.engine.interface import Cost, UnitCycles
from simulator.memory import Traffic

__all__ = ["SAMPLE", "extrapolated", "first_blocks"]

SAMPLE = 6  # blocks: the second so many cost what all later ones do


def first_blocks(decisions: Decisions, count: int) -> Decisions:
    """Return the decisions for the first `count` blocks."""
    return replace(decisions, groups=decisions.groups[:count])


def extrapolated(half: Cost, full: Cost, decisions: Decisions, layout: Layout, sample: int = SAMPLE) -> Cost:
    """Return the time and traffic of all blocks from those of the first S = `sample` and of the first 2 S.

    T = T(2 S) + r (T(2 S) - T(S)), r = queries of the other blocks / queries of the second S. Useful bytes are exact,
    and what was fetched for them is in proportion. Events are left to the caller.
    """
    queries = [group.queries for group in decisions.groups]
    more = sum(queries[2 * sample :]) / sum(queries[sample : 2 * sample])

    def grown(first: float, both: float) -> int:
        return round(both + more * (both - first))

    cycles = grown(half.cycles, full.cycles)
    units = {name: _units(half.units[name], unit, grown, cycles) for name, unit in full.units.items()}
    busy = {name: min(grown(half.busy_cycles[name], count), cycles) for name, count in full.busy_cycles.items()}
    useful = _useful(decisions, layout)
    return Cost(
        cycles,
        grown(half.dram_active_cycles, full.dram_active_cycles),
        full.dram_open_cycles + more * (full.dram_open_cycles - half.dram_open_cycles),
        busy,
        {},
        {name: _traffic(traffic, useful.get(name, traffic.useful_bytes)) for name, traffic in full.traffic.items()},
        {},
        units,
    )


def _units(half: UnitCycles, full: UnitCycles, grown: Callable[[float, float], int], cycles: int) -> UnitCycles:
    """Return the account of all blocks; rounding goes to the starved cycles."""
    busy, blocked, idle = (grown(getattr(half, n), getattr(full, n)) for n in ("busy", "blocked", "idle"))
    busy = min(busy, cycles)
    blocked = min(max(blocked, 0), cycles - busy)
    idle = min(max(idle, 0), cycles - busy - blocked)
    return UnitCycles(busy, cycles - busy - blocked - idle, blocked, idle)


def _useful(decisions: Decisions, layout: Layout) -> Mapping[str, int]:
    """Useful bytes of the streams that grow with the number of blocks."""
    op, groups = layout.op, decisions.groups
    low = op.keys * sum(group.low_bit_queries > 0 for group in groups)
    queries = sum(group.queries for group in groups)
    blocks = Counter(group.index for group in groups)
    keys = sum(len(layout.high(index)) * count for index, count in blocks.items())
    return {
        "key_high": (keys + low) * layout.high_bytes,
        "key_low": low * layout.low_bytes,
        "value": sum(group.values for group in groups) * layout.value_bytes,
        "query": queries * layout.query_bytes,
        "output": queries * layout.output_bytes,
    }


def _traffic(traffic: Traffic, useful: int) -> Traffic:
    if not traffic.useful_bytes:
        return traffic
    factor = useful / traffic.useful_bytes
    bursts = round(traffic.bursts * factor)
    return Traffic(useful, bursts, round(traffic.activations * factor), min(round(traffic.row_hits * factor), bursts))
