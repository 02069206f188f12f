"""The analytical model of SpAtten: one attention op in closed form (docs/simulator.md, "Fidelity").

The time is the largest, over the DRAM, the four stations, the two buffers and the credits, of what comes before the
resource's first work, its work for all heads, and what is left after its last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np

from simulator.designs.spatten.attention import STREAMS
from simulator.designs.spatten.authors import LayerCycles
from simulator.designs.spatten.decide import Decisions, HeadGroup
from simulator.designs.spatten.layout import Layout
from simulator.designs.spatten.machine import Machine
from simulator.engine.analytical import Bound, Dram, Footprint, IdealDram, longest
from simulator.engine.interface import Cost, Rows, UnitCycles
from simulator.memory import Traffic
from simulator.workload.ir import AttentionOp

__all__ = ["Estimate", "Moved"]

READ = ("query", "key_high", "key_low", "value")
MOST_ADDRESSES = 1 << 16  # of V rows that are looked at one by one; beyond, those of the first head stand for all


@dataclass(frozen=True, slots=True)
class Moved:
    """What one stream moves for the whole op, and for one head."""

    traffic: Traffic
    all: Footprint
    head: Footprint

    @staticmethod
    def of(size: int, everything: Footprint, heads: int) -> Moved:
        """Return the traffic of `everything`, `size` useful bytes in `heads` equal parts."""
        bursts, opened = round(everything.total_bursts), round(everything.total_rows)
        traffic = Traffic(size, bursts, opened, max(bursts - opened, 0))
        return Moved(traffic, everything, everything * (1 / heads))


def _sum(footprints: Iterable[Footprint]) -> Footprint:
    return reduce(add, footprints)


@dataclass(frozen=True, slots=True)
class _Path:
    """Cycles on the way of one query through an idle machine.

    keys: until Q and K are there. scored, decided: from then to the first score and the first decision. again: until a
    query that needs the low bits is decided. values: until V is there. fetched: from the decision to that, with the
    selection, where V waits for it. rest: from then to the end of the output in the DRAM.
    """

    keys: float
    scored: float
    decided: float
    again: float
    values: float
    fetched: float
    rest: float


@dataclass(frozen=True)
class Estimate:
    """One op on one machine.

    Parameters
    ----------
    value_rows: for every head group, which of the kept rows of V are fetched.
    """

    machine: Machine
    dram: Dram | IdealDram
    op: AttentionOp
    layout: Layout
    decisions: Decisions
    value_rows: list[Rows]

    # What is moved.

    @cached_property
    def moved(self) -> dict[str, Moved]:
        """What each stream moves; heads lie at equal places of their regions, so that one stands for all but in V."""
        write = self.machine.settings.write
        layout, groups, op = self.layout, self.decisions.groups, self.op
        first = groups[0]
        low = [group for group in groups if group.low_bit_queries]
        queries = self._same(layout.query, first.queries * layout.query_bytes, groups)
        values = self._values()
        if self.decisions.values_in_advance:
            values = self._beside_queries(values, queries)
        found = {"query": queries, "key_high": self._same(layout.high, layout.high_bytes, groups), "value": values}
        if low:
            found["key_low"] = self._same(layout.low, layout.low_bytes, low)
        if write.outputs:
            found["output"] = self._same(layout.output, first.queries * layout.output_bytes, groups)
        if op.phase == "generate" and write.new_key_value:
            found["new_key_value"] = self._appended()
        return found

    def _appended(self) -> Moved:
        groups, rows = self.decisions.groups, self.layout.appended
        parts = [
            self._same(lambda index, plane=plane: rows(index)[plane][0], size, groups)  # type: ignore[misc]
            for plane, (_, size) in enumerate(rows(groups[0].index))
        ]
        size = sum(part.traffic.useful_bytes for part in parts)
        return Moved.of(size, _sum(part.all for part in parts), len(groups))

    def _same(self, addresses: Callable[[int], Rows], row_bytes: int, groups: Sequence[HeadGroup]) -> Moved:
        first, heads = addresses(groups[0].index), sorted({group.index for group in groups})
        own = [head for head in heads if len(addresses(head))]  # rows of two heads may be one
        starts = np.array([addresses(head)[0] for head in own])
        count = len(groups) * len(own) // len(heads)
        one = self.dram.footprint(first, row_bytes)
        everything = self.dram.spread(one, starts) * (count / len(own))  # several blocks of each head
        return Moved.of(len(first) * row_bytes * count, everything, len(groups))

    def _values(self) -> Moved:
        groups, size = self.decisions.groups, self.layout.value_bytes
        rows = sum(map(len, self.value_rows))
        if rows > MOST_ADDRESSES or rows == len(groups) * self.op.keys:
            one = self.dram.footprint(self.layout.values(groups[0].index, self.value_rows[0]), size)
            heads = sorted({group.index for group in groups})
            starts = np.array([self.layout.values(head, self.value_rows[0])[0] for head in heads])
            everything = self.dram.spread(one, starts) * (rows / (len(self.value_rows[0]) * len(heads)))
        else:
            pairs = zip(groups, self.value_rows, strict=True)
            addresses = np.concatenate([self.layout.values(group.index, chosen) for group, chosen in pairs])
            everything = self.dram.footprint(addresses, size)
        return Moved.of(rows * size, everything, len(groups))

    def _beside_queries(self, values: Moved, queries: Moved) -> Moved:
        """Return `values` without the rows that the queries, fetched just before, have opened, where regions share."""
        heads = sorted({group.index for group in self.decisions.groups})
        starts = [np.array([place(head)[0] for head in heads]) for place in (self.layout.query, self._first_value)]
        shared = float(self.dram.same_rows(*starts).mean())
        rows = values.all.rows - shared * np.minimum(values.all.rows, queries.all.rows)
        return Moved.of(values.traffic.useful_bytes, Footprint(values.all.bursts, rows), len(self.decisions.groups))

    def _first_value(self, head: int) -> Rows:
        return self.layout.values(head, np.zeros(1, dtype=np.int64))

    def _cycles(self, *names: str) -> float:
        """Cycles that the DRAM takes for one head's part of some streams."""
        parts = [self.moved[name].head for name in names if name in self.moved]
        return self.dram.cycles(_sum(parts)) if parts else 0.0

    def _all_cycles(self, *names: str) -> float:
        """Cycles that the DRAM takes for all heads' part of some streams, with its stalls."""
        return self.dram.cycles(_sum(self.moved[name].all for name in names if name in self.moved), self._stalls)

    @cached_property
    def dram_cycles(self) -> float:
        """Cycles that the DRAM takes for everything."""
        return self._all_cycles(*self.moved)

    @cached_property
    def _stalls(self) -> float:
        """Cycles in which the window of bursts under way stops the fetcher.

        A request as long as the window is alone in it: an idle read with a row conflict. An output waits until its
        channel has no reads left, while the window fills behind it: an idle write and an idle read, as far as the
        bursts of a head fill the window, for every head that frees a place for the keys of a later one. The rows of new
        tokens lie at the same place of all regions: their banks' time, less what the first decision takes longer than
        the keys that are fetched meanwhile.
        """
        dram, heads = self.dram, len(self.decisions.groups)
        places = min(self._slots(self.machine.held_lines(self.op.keys, self.op.head_dim)), heads)
        reads = [moved.head.total_bursts for name, moved in self.moved.items() if name in READ]
        alone = sum(bursts >= dram.run_ahead for bursts in reads) * (dram.idle_read + dram.conflict)
        filled = min(sum(reads) / dram.run_ahead, 1.0)
        behind = filled * (dram.idle_write + dram.idle_read) if "output" in self.moved else 0.0
        new = dram.bounds(self.moved["new_key_value"].all)["banks"] if "new_key_value" in self.moved else 0.0
        hidden = max(self._path.decided - (places - 1) * self._cycles("query", "key_high"), 0.0)
        return heads * alone + (heads - places) * behind + max(new - hidden, 0.0)

    # How long it takes.

    @cached_property
    def intervals(self) -> tuple[int, int, int, int]:
        """Cycles a query of Q x K, softmax, local-V selection and probabilities x V."""
        machine, op, select = self.machine, self.op, self.decisions.local_select
        scores, outputs = machine.array.cycles(op.keys, op.head_dim), machine.array.cycles(op.local_values, op.head_dim)
        return scores, machine.softmax.cycles(op.keys), machine.topk.cycles(*select) if select else 0, outputs

    @property
    def queries(self) -> int:
        """Queries of all heads."""
        return sum(group.queries for group in self.decisions.groups)

    @property
    def passes(self) -> int:
        """Queries of all heads, those that are computed again twice."""
        return self.queries + sum(group.low_bit_queries for group in self.decisions.groups)

    @cached_property
    def bound(self) -> Bound:
        """The resource that sets the time."""
        return longest(self._bounds())

    @property
    def cycles(self) -> int:
        """Cycles of the op."""
        bound = self.bound
        selections = self.machine.token_head_cycles(self.op)
        return round(max(bound.total, bound.total - self._written + selections))

    @property
    def _written(self) -> float:
        """Cycles from the last output to its end in the DRAM."""
        return self.dram.idle_write + self._cycles("output") if "output" in self.moved else 0.0

    @cached_property
    def _path(self) -> _Path:
        """The parts of the way of one query."""
        op, machine = self.op, self.machine
        scores, shares, chosen, outputs = self.intervals
        qk, pv = machine.array.score_latency(op.head_dim), machine.array.output_latency(op.head_dim)
        read = self.dram.idle_read
        decided = 1 + qk + self._item * shares + machine.softmax.latency
        values = read + max(self._cycles("value"), outputs - 1)
        again = 0.0
        if "key_low" in self.moved:
            batches = machine.settings.pipeline.undecided * machine.softmax.queries_in_fifo(op.keys)
            waits = self.decisions.groups[0].queries <= batches  # else the low bits arrive before the last query
            arrived = read + self._cycles("key_low") + 1 if waits else 0.0
            again = decided - 1 + max(arrived, (read if waits else 0.0) + self._item * scores)
        return _Path(
            keys=read + max(self._cycles("query", "key_high"), scores - 1),  # Q x K follows K row by row
            scored=1 + qk,
            decided=decided,
            again=again,
            values=values,
            fetched=self._item * chosen + values + 1 - outputs if self.decisions.local_select else 0.0,
            rest=self._item * outputs + pv + self._written,
        )

    def _bounds(self) -> Iterator[Bound]:
        way, groups, item = self._path, self.decisions.groups, self._item
        scores, shares, chosen, outputs = self.intervals
        left = way.fetched + way.rest  # after the decision on the last query
        yield Bound("qk", way.keys + 1 - scores, self.passes * scores, way.decided - 1 + left)
        softmax = way.decided - way.scored - item * shares
        yield Bound("softmax", way.keys + way.scored, self.passes * shares, softmax + left)
        each = max(self.passes * max(scores, shares) / len(groups), self._cycles("query", "key_high"))
        later = self.queries
        for place, group in enumerate(groups):
            if not place or group.low_bit_queries:  # decisions leave in order: those of all later heads wait
                decided = way.keys + way.decided + place * each + (way.again if group.low_bit_queries else 0.0)
                yield Bound("topk_value", decided, later * chosen, left - item * chosen)
                yield Bound("pv", decided + way.fetched, later * outputs, way.rest - item * outputs)
            later -= group.queries
        yield from self._memory_bounds(left)
        yield from self._buffer_bounds(left)

    # What it costs.

    @property
    def traffic(self) -> dict[str, Traffic]:
        """Traffic of every stream of the design."""
        return {name: self.moved[name].traffic if name in self.moved else Traffic() for name in STREAMS}

    def cost(self, program: LayerCycles | None = None) -> Cost:
        """Return the cost without operations and events; with `program` its time is that of the authors' program."""
        scores, shares, chosen, outputs = self.intervals
        cycles = self.cycles
        active = min(round(self.dram_cycles + self.dram.idle_read), cycles)
        busy = {
            "fetcher": active,
            "qk": self.passes * scores,
            "softmax": self.passes * shares,
            "topk_value": self.queries * chosen,
            "pv": self.queries * outputs,
            "topk": self.machine.token_head_cycles(self.op),
        }
        if program:
            cycles, fill = program.total, program.fill
            active = min(active, cycles)
            busy = {"fetcher": program.dram, "qk": fill, "softmax": fill, "topk_value": 0, "pv": fill}
            busy["topk"] = round(program.topk)
        busy = {name: min(count, cycles) for name, count in busy.items()}
        opened = self.dram.open_cycles(cycles, self.dram_cycles, 2 * len(self.decisions.groups))
        units = {name: UnitCycles(count, cycles - count) for name, count in busy.items()}
        return Cost(cycles, active, opened, busy, {}, self.traffic, {}, units)

    def _memory_bounds(self, left: float) -> Iterator[Bound]:
        """The DRAM until the last K or V, and what is left then; and until its last write."""
        way, read = self._path, self.dram.idle_read
        values = self._cycles("value")
        behind = way.decided if self.decisions.local_select else max(values, way.decided)
        after = behind + self._rest_of_head(self.decisions.groups[-1]) + left
        for work, rest in ((self._all_cycles(*READ) - values, after), (self.dram_cycles, self.dram.idle_write)):
            total = read + work + rest
            yield Bound("dram", read, work + self.dram.refreshed(total) - total, rest)

    @property
    def _item(self) -> int:
        """Queries that pass the stations as one item: a block of them, where K streams by."""
        return self.decisions.groups[0].queries if self.decisions.in_blocks else 1

    def _rest_of_head(self, group: HeadGroup) -> int:
        """Cycles from the score of a head's first query to that of its last."""
        return (group.queries - 1) * (self.intervals[0] if self.decisions.in_blocks else max(self.intervals))

    def _buffer_bounds(self, left: float) -> Iterator[Bound]:
        """The two buffers: a head holds its places from the fetch to the last decision, or to its last output."""
        way, op, groups = self._path, self.op, self.decisions.groups
        held = way.keys + way.decided + self._rest_of_head(groups[0]) + way.again
        slots = self._slots(self.machine.held_lines(op.keys, op.head_dim))
        yield self._loop("key buffer", slots, len(groups), held, left)
        slots = self._slots(self.machine.held_lines(max(group.values for group in groups), op.head_dim))
        queries = 0 if self.decisions.in_blocks else self._rest_of_head(groups[0])
        held = way.values + queries + way.rest - self._written
        yield self._loop("value buffer", slots, len(groups), held, way.keys + way.decided + self._written)

    def _slots(self, lines: int) -> int:
        sram = self.machine.sram
        return max(min(sram.lines // max(lines, 1), sram.settings.outstanding), 1)

    @staticmethod
    def _loop(name: str, slots: int, heads: int, held: float, after: float) -> Bound:
        """Heads that hold one of `slots` places for `held` cycles each."""
        return Bound(name, held, max(heads - slots, 0) / slots * held, after)
