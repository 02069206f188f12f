"""Closed forms for the analytical fidelity: what a DRAM needs for given rows, and how long a pipeline takes.

The time of the DRAM is the largest of the bounds that docs/memory.md names, over the rows actually touched; the time of
a pipeline the largest, over its resources, of what comes before the resource's first work, that work, and what is left
after its last. Nothing here is fitted to the event engine or to a published result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from simulator.memory import MemorySpec, Traffic
from simulator.memory.ideal import IdealSpec
from simulator.memory.stream import StreamTime

__all__ = ["Bound", "Dram", "Footprint", "IdealDram", "StreamEstimate", "closed_forms", "longest"]

SAMPLE_LINES = 1 << 15  # 1 MiB: whole rows of many banks
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bound:
    """What one resource costs: cycles before its first work, its work, and cycles after its last."""

    resource: str
    before: float
    work: float
    after: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.before + self.work + self.after


def longest(bounds: Iterable[Bound]) -> Bound:
    """Return the bound that sets the time, the first of equal ones."""
    return max(bounds, key=lambda bound: bound.total)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What requests touch, [units, bank groups, banks]: bursts, and rows that must be opened.

    A unit is a rank of a pseudo-channel.
    """

    bursts: Floats
    rows: Floats

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(self.bursts + other.bursts, self.rows + other.rows)

    def __mul__(self, factor: float) -> Footprint:
        return Footprint(self.bursts * factor, self.rows * factor)

    @property
    def total_bursts(self) -> float:
        """Bursts in all units."""
        return float(self.bursts.sum())

    @property
    def total_rows(self) -> float:
        """Rows opened in all units, each request by itself."""
        return float(self.rows.sum())


@dataclass(frozen=True)
class Dram:
    """Bounds of a memory, in cycles of a design's clock.

    Parameters
    ----------
    spec: the memory. clock_ghz: the design's clock. run_ahead: bursts that may be under way at a time.
    """

    spec: MemorySpec
    clock_ghz: float
    run_ahead: int

    @cached_property
    def _ticks(self) -> dict[str, int]:
        return self.spec.timing_ticks

    @cached_property
    def _cycles_per_tick(self) -> float:
        return self.clock_ghz / self.spec.clock_ghz

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        organisation = self.spec.organisation
        return self.spec.units, organisation.stack_ids * organisation.bank_groups, organisation.banks_per_group

    @cached_property
    def idle_read(self) -> float:
        """Cycles of a read of a closed bank on an idle channel: delay + command clocks + tRCD + tCL + tBURST."""
        t, controller = self._ticks, self.spec.controller
        commands = controller.slots.activate + controller.slots.read - 2
        delay = self.spec.controller_numbers["delay"]
        return (delay + commands + t["rcd_read"] + t["cl"] + t["burst"]) * self._cycles_per_tick

    @cached_property
    def idle_write(self) -> float:
        """Cycles of a write to a closed bank on an idle channel, until its last data."""
        t, controller = self._ticks, self.spec.controller
        commands = controller.slots.activate + controller.slots.write - 2
        return (commands + t["rcd_write"] + t["cwl"] + t["burst"]) * self._cycles_per_tick

    @cached_property
    def conflict(self) -> float:
        """Cycles by which a read is longer if another row of the bank is open: tRP."""
        return self._ticks["rp"] * self._cycles_per_tick

    def refreshed(self, cycles: float) -> float:
        """Return the time of an op that keeps the DRAM at work for `cycles`, with the refreshes that fall into it.

        One refresh of all banks takes tRFC + tRP. `Design.cost` starts ops at the middle of one of four quarters of
        tREFI: over these a time T has floor(4 T / tREFI + 1/2) / 4 refreshes. Refreshes of single banks take
        tRFCpb / tREFI of the time.
        """
        t, refresh, tick = self._ticks, self.spec.controller.refresh, self._cycles_per_tick
        if refresh == "none" or not t["refi"]:
            return cycles
        if refresh == "per_bank":
            return cycles / (1 - min(t["rfc_bank"] / t["refi"], 0.99))
        each, interval = (t["rfc"] + t["rp"]) * tick, t["refi"] * tick
        most = cycles / max(1 - each / interval, 0.01) + each  # where the iteration cannot lead further
        total = cycles
        while (longer := min(cycles + each * math.floor(4 * total / interval + 0.5) / 4, most)) > total:
            total = longer
        return total

    def open_cycles(self, cycles: int, active: float, visits: int) -> float:
        """Return the cycles with an open row, over all units, if `visits` of them take `active` of `cycles`.

        A refresh closes all rows: behind each visit they stay open for half of tREFI, if the next one is later. Rows
        that are closed after each access are open while they are used.
        """
        interval = self._ticks["refi"] * self._cycles_per_tick
        if self.spec.controller.rows == "closed":
            left = 0.0
        else:
            left = visits * interval / 2 if interval and self.spec.controller.refresh != "none" else cycles
        return self.spec.units * min(active + left, float(cycles))

    def lines(self, addresses: Ints, row_bytes: int) -> Ints:
        """Return the bursts of a request as line numbers; one equal to that before it is fetched once."""
        burst = self.spec.organisation.burst_bytes
        first, last = addresses // burst, (addresses + row_bytes - 1) // burst
        widest = int((last - first).max(initial=-1)) + 1
        lines = first[:, None] + np.arange(widest, dtype=np.int64)
        lines = lines[lines <= last[:, None]]
        new = np.ones(len(lines), dtype=bool)
        new[1:] = lines[1:] != lines[:-1]
        return lines[new]

    def footprint(self, addresses: Ints, row_bytes: int) -> Footprint:
        """Return what a request for rows of `row_bytes` bytes touches; with closed rows each burst opens one."""
        banks = self.spec.units * self.spec.banks
        bank, row = self._decoded(self.lines(addresses, row_bytes))
        opened = np.unique(bank * self.spec.organisation.rows + row) // self.spec.organisation.rows
        counts = (np.bincount(numbers, minlength=banks).astype(float) for numbers in (bank, opened))
        bursts, rows = (numbers.reshape(self._shape) for numbers in counts)
        return Footprint(bursts, bursts if self.spec.controller.rows == "closed" else rows)

    def contiguous(self, start: int, size: int) -> Footprint:
        """Return what `size` contiguous bytes touch; of more than SAMPLE_LINES bursts the first ones stand for all."""
        burst = self.spec.organisation.burst_bytes
        lines = (start + size - 1) // burst - start // burst + 1
        sampled = min(lines, SAMPLE_LINES)
        first = np.array([start // burst * burst], dtype=np.int64)
        return self.footprint(first, sampled * burst) * (lines / sampled)

    def _decoded(self, lines: Ints) -> tuple[Ints, Ints]:
        """Return the bank, numbered through all units, and the row of each line."""
        o = self.spec.organisation
        fields = {name: np.zeros_like(lines) for name in ("channel", "pseudo_channel", "rank", "stack", "bank_group")}
        fields |= {name: np.zeros_like(lines) for name in ("bank", "row", "column")}
        have, left = dict.fromkeys(fields, 0), lines
        for name, bits in self.spec.sliced_map():
            fields[name] |= (left & ((1 << bits) - 1)) << have[name]
            have[name] += bits
            left = left >> bits
        sizes = (
            ("channel", o.channels),
            ("pseudo_channel", o.pseudo_channels),
            ("rank", o.ranks),
            ("stack", o.stack_ids),
            ("bank_group", o.bank_groups),
            ("bank", o.banks_per_group),
        )
        bank = np.zeros_like(lines)
        for name, size in sizes:
            bank = bank * size + fields[name]
        return bank, fields["row"]

    def spread(self, one: Footprint, starts: Ints) -> Footprint:
        """Return the sum of footprints like `one`, that of a region at starts[0], with regions at all `starts`.

        Unit, bank group and bank of each region's first byte say how far it lies from the first one.
        """
        banks, _ = self._decoded(starts // self.spec.organisation.burst_bytes)
        places = np.stack(np.unravel_index(banks, self._shape))
        shifts, counts = np.unique((places - places[:, :1]).T, axis=0, return_counts=True)
        total = one * 0.0
        for shift, count in zip(shifts, counts, strict=True):
            moved = (np.roll(numbers, shift, (0, 1, 2)) for numbers in (one.bursts, one.rows))
            total = total + Footprint(*moved) * float(count)
        return total

    def same_rows(self, starts: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Return pair by pair whether regions that start there lie in the same row number of the same bank number."""
        burst, banks = self.spec.organisation.burst_bytes, self.spec.organisation.banks_per_group
        (bank, row), (other, other_row) = (self._decoded(addresses // burst) for addresses in (starts, others))
        same: npt.NDArray[np.bool_] = np.logical_and(bank % banks == other % banks, row == other_row)
        return same

    def bounds(self, moved: Footprint) -> dict[str, float]:
        """Return by name the least cycles in which the DRAM moves what `moved` says, without refresh.

        data bus and bank group: bursts of the fullest one x max(tBURST, tCCD_S), x tCCD_L. activations: rows of the
        fullest unit, four in max(tFAW, 4 tRRD_S). row bus: clocks of ACT, PRE (and, where it is shared, RD) of a
        channel. banks: rows of the fullest bank x tRC, or each tRCD + (bursts - 1) tCCD_L + tRTP + tRP, but one tRC.
        crossbar: one burst a channel and cycle. run-ahead: an idle read for every `run_ahead` bursts (Little's law).
        """
        t, controller = self._ticks, self.spec.controller
        units, rows = moved.bursts.sum((1, 2)), moved.rows.sum((1, 2))
        channels = self.spec.organisation.channels
        of_channel, opened = units.reshape(channels, -1).sum(1), rows.reshape(channels, -1).sum(1)
        commands = opened * (controller.slots.activate + controller.slots.precharge)
        if controller.command_bus != "split":
            commands = commands + of_channel * controller.slots.read
        served = moved.rows * (t["rcd_read"] + t["rtp"] + t["rp"])
        served = served + np.maximum(moved.bursts - moved.rows, 0) * t["ccd_long"]
        busy = np.maximum(moved.rows * t["rc"], served)
        tick = self._cycles_per_tick
        return {
            "data bus": float(units.max()) * max(t["burst"], t["ccd_short"]) * tick,
            "bank group": float(moved.bursts.sum(2).max()) * t["ccd_long"] * tick,
            "activations": float(rows.max()) * max(t["faw"], 4 * t["rrd_short"]) / 4 * tick,
            "row bus": float(commands.max()) * tick,
            "banks": max(float(busy.max()) - t["rc"], 0.0) * tick,
            "crossbar": float(of_channel.max()) * tick,
            "run-ahead": moved.total_bursts / self.run_ahead * self.idle_read,
        }

    def cycles(self, moved: Footprint, stalls: float = 0.0) -> float:
        """Return the largest bound, without refresh.

        `stalls` are cycles in which no data move because the window of bursts under way is full or empty. They come
        on top of every bound but that of the banks, which work on meanwhile.
        """
        bounds = self.bounds(moved)
        banks = bounds.pop("banks")
        return max(banks, max(bounds.values()) + stalls)


@dataclass(frozen=True)
class IdealDram:
    """The same for the ideal memory: whole bursts of each row, no rows to open, a latency before the first data."""

    spec: IdealSpec
    run_ahead: int
    conflict = 0.0

    @property
    def idle_read(self) -> float:
        """Cycles before the first data."""
        return float(self.spec.latency)

    idle_write = idle_read

    def refreshed(self, cycles: float) -> float:
        """Return `cycles`: there is no refresh."""
        return cycles

    def footprint(self, addresses: Ints, row_bytes: int) -> Footprint:
        """Return the bursts of a request."""
        bursts = float(len(addresses) * -(-row_bytes // self.spec.burst_bytes))
        return Footprint(np.full((1, 1, 1), bursts), np.zeros((1, 1, 1)))

    def contiguous(self, start: int, size: int) -> Footprint:
        """Return the bursts of `size` contiguous bytes."""
        return self.footprint(np.array([start]), size)

    def same_rows(self, starts: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Return False: there are no rows."""
        return np.zeros(len(starts), dtype=bool)

    def open_cycles(self, cycles: int, active: float, visits: int) -> float:
        """Return 0: there are no rows."""
        return 0.0

    def spread(self, one: Footprint, starts: Ints) -> Footprint:
        """Return as many times `one`."""
        return one * float(len(starts))

    def bounds(self, moved: Footprint) -> dict[str, float]:
        """Return the cycles on the data path, and those of an idle read for every `run_ahead` bursts."""
        data = moved.total_bursts * self.spec.burst_bytes / self.spec.bytes_per_cycle
        return {"data bus": data, "banks": 0.0, "run-ahead": moved.total_bursts / self.run_ahead * self.idle_read}

    def cycles(self, moved: Footprint, stalls: float = 0.0) -> float:
        """Return the cycles on the data path, on which nothing stalls but the fetcher's window."""
        return max(self.bounds(moved).values())


def closed_forms(spec: MemorySpec | IdealSpec, clock_ghz: float, run_ahead: int) -> Dram | IdealDram:
    """Return the closed forms of a memory."""
    return IdealDram(spec, run_ahead) if isinstance(spec, IdealSpec) else Dram(spec, clock_ghz, run_ahead)


@dataclass(frozen=True)
class StreamEstimate:
    """Contiguous transfers: the bound of the DRAM behind an idle access, longer by the refreshes."""

    dram: Dram | IdealDram

    def time(self, size: int, write: bool = False) -> StreamTime:
        """Return the cost of reading or writing `size` contiguous bytes from address 0 on."""
        if not size:
            return StreamTime(0, Traffic())
        moved = self.dram.contiguous(0, size)
        idle = self.dram.idle_write if write else self.dram.idle_read
        bursts, opened = round(moved.total_bursts), round(moved.total_rows)
        cycles = round(self.dram.refreshed(idle + self.dram.cycles(moved)))
        return StreamTime(cycles, Traffic(size, bursts, opened, max(bursts - opened, 0)))
