"""SpAtten's attention with an ideal memory, every unit stepped one cycle at a time: from docs/simulator.md alone.

Nothing is shared with the simulator but the op and the numbers of the settings. Slow, and not clever on purpose.
"""

from __future__ import annotations

import math
from typing import Any

from naive_units import BLOCKED, BURST, BUSY, STARVED, Array, Head, Query, Request, Worker, selection_cycles

from simulator.workload.ir import AttentionOp


class Naive:
    """One op; `run` returns its cycles."""

    def __init__(self, settings: Any, op: AttentionOp, blocks: int | None = None) -> None:
        self.s, self.op = settings, op
        self.array = Array(settings.array, op.head_dim)
        s = settings.softmax
        self.softmax_cycles = math.ceil(op.keys / s.parallelism)
        self.select = (op.keys, op.local_values) if op.local_values < op.keys else None
        self.entry = max(1, s.fifo_depth // self.softmax_cycles)
        self.heads = self._heads(blocks)
        self.qk = Worker(self.array.score_latency)
        self.softmax = Worker(s.dequantise + s.exponent + s.accumulate + s.divide + s.quantise)
        self.topk = Worker(0)
        self.pv = Worker(self.array.output_latency)
        self.decision = Worker(0)
        self.fetcher, self.writer = Worker(0), Worker(0)
        self.scores: list[Query] = []
        self.order: list[Query] = []
        self.again: list[Query] = []
        self.to_select: list[Query] = []
        self.to_values: list[Query] = []
        self.entries, self.entries_since = settings.pipeline.undecided, 0
        self.key_asked, self.value_asked = list(self.heads), list(self.heads)
        lines = 8 * settings.sram.bytes // (settings.array.multipliers * settings.array.element_bits)
        self.key_lines = self.value_lines = lines
        self.key_held = self.value_held = 0
        self.urgent: list[Request] = []
        self.waiting: list[list[Request]] = [[], [], []]
        self.turn = 0
        self.issued: list[Request] = []
        self.path_free = self.last_data = self.compute_end = 0
        fetch = settings.fetcher
        self.run_ahead = max(fetch.lanes, fetch.lanes * fetch.fifo_depth * fetch.word_bytes // BURST)

    def _heads(self, blocks: int | None) -> list[Head]:
        op, found = self.op, []
        for index in range(op.kv_heads):
            members = [h for h in range(len(op.heads)) if self._shares(h, index)]
            low = sum(op.lsb_queries[h] for h in members) if op.key_lsb_bits else 0
            queries, values = op.queries * len(members), max(op.values[h] for h in members)
            for begin in range(0, queries, blocks or queries):
                end = min(begin + (blocks or queries), queries)
                mine = end * low // queries - begin * low // queries
                found.append(Head(end - begin, mine, values, blocks is not None))
            found[-1].appends = op.phase == "generate"
        return found

    def _shares(self, head: int, index: int) -> bool:
        count, groups = len(self.op.heads), self.op.kv_heads
        return count * index // groups <= head < count * (index + 1) // groups

    # Sizes.

    def row(self, bits: int) -> int:
        return math.ceil(self.op.head_dim * bits / 8)

    def lines(self, rows: int) -> int:
        fill = self.s.sram.fill_lines
        return math.ceil(self.array.cycles(rows) / fill) * fill

    def held(self, rows: int) -> int:
        """Lines of an allocation: all of them, or a part of the buffer where the rows stream by."""
        lines = self.lines(rows)
        if self.heads[0].blocks:
            total = 8 * self.s.sram.bytes // (self.s.array.multipliers * self.s.array.element_bits)
            lines = min(lines, total // self.s.sram.buffers)
        return lines

    def fill(self, rows: int) -> int:
        return self.lines(rows) // self.s.sram.fill_lines if self.s.sram.shared_port else 0

    @staticmethod
    def bursts(rows: int, size: int) -> int:
        """Bytes of rows in whole bursts."""
        return rows * math.ceil(size / BURST) * BURST

    # A cycle.

    def run(self) -> int:
        cycle = 0
        while any(head.left < head.queries for head in self.heads) or self.issued or any(self.waiting) or self.urgent:
            self._arrivals(cycle)
            self._lines(cycle)
            self._fetch(cycle)
            self._qk(cycle)
            self._softmax(cycle)
            self._decide(cycle)
            self._select(cycle)
            self._pv(cycle)
            cycle += 1
            assert cycle < 1_000_000, "the naive model does not end"
        barrier = sum(selection_cycles(self.s.topk, *pick, True) for pick in self._barriers())
        return max(self.last_data, self.compute_end + barrier)

    def _barriers(self) -> list[tuple[int, int]]:
        return [pick for pick in (self.op.token_select, self.op.head_select) if pick is not None]

    def busy(self, cycles: int) -> dict[str, tuple[int, int, int, int]]:
        barrier = sum(selection_cycles(self.s.topk, *pick, True) for pick in self._barriers())
        starved = self.compute_end if barrier else 0
        units = {
            "fetcher": self.fetcher, "qk": self.qk, "softmax": self.softmax, "decision": self.decision,
            "topk_value": self.topk, "pv": self.pv, "writer": self.writer,
        }  # fmt: skip
        found = {name: unit.account(cycles) for name, unit in units.items()}
        return found | {"topk": (barrier, starved, 0, cycles - barrier - starved)}

    def _arrivals(self, cycle: int) -> None:
        while True:
            done = [r for r in self.issued if r.ends is not None and r.ends <= cycle]
            if self.s.fetcher.in_order and done and done[0] is not self.issued[0]:
                done = []
            if not done:
                return
            request = done[0]
            self.issued.remove(request)
            self.last_data = max(self.last_data, cycle)
            data = (request.first, cycle)
            if request.what == "keys":
                request.head.keys = data
            elif request.what == "low":
                request.head.low_bits = data
            elif request.what == "values":
                request.head.value = data

    def _lines(self, cycle: int) -> None:
        sram, op = self.s.sram, self.op
        while self.key_asked and self.key_held < sram.outstanding and self.held(op.keys) <= self.key_lines:
            head = self.key_asked.pop(0)
            self.key_lines -= self.held(op.keys)
            self.key_held += 1
            queries = self.bursts(1, head.queries * self.row(op.query_bits))
            keys = self.bursts(op.keys, self.row(op.key_msb_bits))
            self.waiting[0].append(Request([queries, keys], head, "keys"))
        while self.value_asked and self.value_held < sram.outstanding:
            head = self.value_asked[0]
            if self.held(head.values) > self.value_lines:
                break
            self.value_asked.pop(0)
            self.value_lines -= self.held(head.values)
            self.value_held += 1
            head.value_lines = True
            head.value_wanted = head.value_wanted or self.select is None
            self._ask_values(head, cycle)

    def _ask_values(self, head: Head, cycle: int) -> None:
        if not (head.value_lines and head.value_wanted):
            return
        if head.values == 0:
            head.value = (cycle, cycle)
        else:
            size = self.bursts(head.values, self.row(self.op.value_bits))
            self.waiting[1].append(Request([size], head, "values"))

    def _fetch(self, cycle: int) -> None:
        while sum(r.bursts for r in self.issued) < self.run_ahead:
            request = self._next_request()
            if request is None:
                break
            self.issued.append(request)
            for size in request.parts:
                start = max(cycle, self.path_free)
                latency = self.s.dram.ideal_latency
                self.path_free = start + math.ceil(size / self.s.dram.ideal_bytes_per_cycle)
                request.first = max(request.first, start + latency + 1)
                request.ends = self.path_free + latency
        self.fetcher.log.append(BUSY if self.issued else BLOCKED if self.key_asked else STARVED)
        writes = any(r.what == "write" for r in self.issued)
        self.writer.log.append(BUSY if writes else BLOCKED if self.waiting[2] else STARVED)

    def _next_request(self) -> Request | None:
        if self.urgent:
            return self.urgent.pop(0)
        for step in range(3):
            line = (self.turn + step) % 3
            if self.waiting[line]:
                self.turn = (line + 1) % 3
                return self.waiting[line].pop(0)
        return None

    def _turn(self, unit: Worker, cycle: int, room: Any, deliver: Any) -> bool:
        """Hand over; return whether the unit may take an item in this cycle."""
        was_overdue = unit.due(cycle - 1)
        while unit.due(cycle) and room():
            deliver(unit.results.pop(0)[1])
        if unit.due(cycle):
            unit.log.append(BUSY if cycle < unit.ends else BLOCKED)
            return False
        unit.free_since = max(unit.free_since, unit.ends, cycle if was_overdue else 0)
        if cycle < unit.ends:
            unit.log.append(BUSY)
            return False
        return True

    def _qk(self, cycle: int) -> None:
        def deliver(query: Query) -> None:
            self.scores.append(query)

        if not self._turn(self.qk, cycle, lambda: len(self.scores) < self.entry, deliver):
            return
        query, state = self._next_query(cycle)
        if query is None:
            self.qk.log.append(state)
            return
        data = query.head.low_bits if query.again else query.head.keys
        lacking_data = max(query.since, self.qk.free_since)
        ahead = cycle - max(data[0], lacking_data) - self.fill(self.op.keys)
        self.qk.start(cycle, query, query.count * max(self.array.cycles(self.op.keys), 1), ahead)
        self.qk.log.append(BUSY)

    def _next_query(self, cycle: int) -> tuple[Query | None, str]:
        for query in self.again:
            if query.head.low_bits is not None:
                self.again.remove(query)
                return query, BUSY
        head = next((head for head in self.heads if head.entered < head.queries), None)
        if head is None or head.keys is None:
            return None, STARVED
        opens = head.blocks or head.entered % self.entry == 0
        if opens and self.entries == 0:
            return None, STARVED if self.again else BLOCKED
        count = head.queries if head.blocks else 1
        j, q, few = head.entered, head.queries, head.low
        low = head.low if head.blocks else (j + 1) * few // q - j * few // q
        head.entered += count
        closes = head.blocks or head.entered % self.entry == 0 or head.entered == q
        query = Query(head, low, opens, closes, count, since=self.entries_since if opens else 0)
        self.entries -= opens
        self.order.append(query)
        return query, BUSY

    def _softmax(self, cycle: int) -> None:
        self.arrived: list[Query] = []
        if not self._turn(self.softmax, cycle, lambda: True, self.arrived.append):
            return
        if not self.scores:
            self.softmax.log.append(STARVED)
            return
        query = self.scores.pop(0)
        self.softmax.start(cycle, query, query.count * self.softmax_cycles, 0)
        self.softmax.log.append(BUSY)

    def _decide(self, cycle: int) -> None:
        for query in self.arrived:
            head = query.head
            if query.low and not query.again:
                query.again, query.count, query.since = True, query.low, cycle + 1
                self.again.append(query)
                if not head.low_asked:
                    head.low_asked = True
                    size = self.bursts(self.op.keys, self.row(self.op.key_lsb_bits))
                    extra = [self.bursts(self.op.keys, self.row(self.op.key_msb_bits))] if head.blocks else []
                    self.urgent.append(Request([*extra, size], head, "low"))
                continue
            query.decided = True
            head.decided += head.queries if head.blocks else 1
            if head.decided == head.queries:
                self.key_lines += self.held(self.op.keys)
                self.key_held -= 1
        queue, room = (self.to_select, 1) if self.select else (self.to_values, self.s.pipeline.decided)
        if not self.order or not self.order[0].decided:
            self.decision.log.append(STARVED)
        elif len(queue) >= room:
            self.decision.log.append(BLOCKED)
        else:
            query = self.order.pop(0)
            query.since = cycle
            query.count = query.head.queries if query.head.blocks else 1
            queue.append(query)
            if query.closes:
                if self.entries == 0:
                    self.entries_since = cycle + 1
                self.entries += 1
            self.decision.log.append(BUSY)

    def _select(self, cycle: int) -> None:
        def deliver(query: Query) -> None:
            if not query.head.value_wanted:
                query.head.value_wanted = True
                self._ask_values(query.head, cycle)
            query.since = cycle
            self.to_values.append(query)

        if not self._turn(self.topk, cycle, lambda: len(self.to_values) < self.s.pipeline.decided, deliver):
            return
        if not self.to_select:
            self.topk.log.append(STARVED)
            return
        query = self.to_select.pop(0)
        each = max(selection_cycles(self.s.topk, *self.select, False), 1)
        self.topk.start(cycle, query, query.count * each, 0)
        self.topk.log.append(BUSY)

    def _pv(self, cycle: int) -> None:
        if not self._turn(self.pv, cycle, lambda: True, lambda query: self._leave(query, cycle)):
            return
        if not self.to_values or self.to_values[0].head.value is None:
            self.pv.log.append(STARVED)
            return
        query = self.to_values.pop(0)
        since = max(query.head.value[0], query.since, self.pv.free_since)
        ahead = cycle - since - self.fill(query.head.values)
        self.pv.start(cycle, query, query.count * max(self.array.cycles(self.op.local_values), 1), ahead)
        self.pv.log.append(BUSY)

    def _leave(self, query: Query, cycle: int) -> None:
        head, op = query.head, self.op
        self.compute_end = cycle
        head.left += query.count
        if head.left < head.queries:
            return
        self.value_lines += self.held(head.values)
        self.value_held -= 1
        parts = []
        if self.s.write.outputs:
            parts.append(self.bursts(1, head.queries * self.row(self.s.write.output_bits)))
        if head.appends and self.s.write.new_key_value:
            sizes = (op.key_msb_bits, op.key_lsb_bits, op.value_bits)
            parts += [self.bursts(1, self.row(bits)) for bits in sizes if bits]
        if parts:
            self.waiting[2].append(Request(parts, head, "write"))
