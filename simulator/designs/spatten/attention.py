"""The attention of one layer on SpAtten, event by event.

K/V head by K/V head, query by query: fetch Q and K, Q x K, softmax, low-bit decision (fetch the low bits of K once per
head, compute again), local-V selection, V, probabilities x V, output. Heads overlap as far as the two SRAMs and the
FIFOs allow; the token and head selections wait for the last head. docs/simulator.md states every rule.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from functools import partial

from simulator.designs.spatten.decide import Decisions, HeadGroup
from simulator.designs.spatten.layout import Layout
from simulator.designs.spatten.machine import Machine
from simulator.engine.event import Engine, Span
from simulator.engine.interface import Rows, UnitCycles
from simulator.engine.pipeline import BLOCKED, HELD, STARVED, Account, Held, Unit
from simulator.engine.stations import Buffer, FetchQueue, Part
from simulator.memory import Finished, Memory
from simulator.memory.ideal import IdealMemory
from simulator.workload.ir import AttentionOp

__all__ = ["STREAMS", "AttentionRun"]

STREAMS = ("key_high", "key_low", "value", "query", "output", "new_key_value")
KEY_HIGH, KEY_LOW, VALUE, QUERY, OUTPUT, NEW = range(len(STREAMS))
KEYS, VALUES, WRITES = range(3)  # the fetcher's waiting lines
# The order of the units within a cycle, behind the arrival of data (rank 0).
LINES, FETCH, QK, SOFTMAX, DECISION, SELECT, PV = range(1, 8)


@dataclass(slots=True, eq=False)
class _Head:
    """One K/V head (or one block of its queries, where K does not fit on the chip) on its way through the pipeline."""

    group: HeadGroup
    value_rows: Rows
    started: int = 0  # queries, as are the next two
    decided: int = 0
    finished: int = 0
    key_data: Finished | None = None  # and Q
    value_room: bool = False
    value_wanted: bool = False
    value_data: Finished | None = None
    low_data: Finished | None = None
    low_asked: bool = False


@dataclass(slots=True, eq=False)
class _Query:
    """A query (`count` of them: a block, where K does not fit on the chip); `low` of them need the low bits."""

    head: _Head
    number: int
    count: int
    low: int
    opens: bool  # the first query of an entry of the request FIFO
    closes: bool  # the last one
    again: bool = False
    final: bool = False
    waits_since: int = 0

    def __str__(self) -> str:
        return f"head {self.head.group.index}, query {self.number}" + (" again" if self.again else "")


class AttentionRun:
    """One op on one machine; `run` may be called once.

    Parameters
    ----------
    value_rows: for every head group, which of the kept rows of V are fetched. trace: gets what units did when.
    """

    def __init__(
        self,
        machine: Machine,
        memory: Memory | IdealMemory,
        op: AttentionOp,
        layout: Layout,
        decisions: Decisions,
        value_rows: list[Rows],
        trace: list[Span] | None = None,
    ) -> None:
        self.machine, self.op, self.layout, self.decisions = machine, op, layout, decisions
        self.engine = Engine(memory, trace)
        groups = zip(decisions.groups, value_rows, strict=True)
        self._heads = [_Head(group, rows) for group, rows in groups]
        self._current = 0  # the head whose queries enter
        self._finished = 0  # heads
        self._blocks_left = Counter(group.index for group in decisions.groups)
        self._compute_end = 0
        self._requests = machine.settings.pipeline.undecided  # free entries of the request FIFO
        self._request_since = 0
        self._request_size = machine.softmax.queries_in_fifo(op.keys)
        self._key_lines = machine.held_lines(op.keys, op.head_dim)
        self._key_fill = machine.fill_cycles(op.keys, op.head_dim)
        self._recompute: deque[_Query] = deque()
        self._scores: deque[_Query] = deque()  # the score FIFO
        self._order: deque[_Query] = deque()  # queries without a decision, oldest first
        self._to_select: deque[_Query] = deque()
        self._to_values: deque[_Query] = deque()
        self._decision = Account("decision", trace)
        self._connect()

    def _connect(self) -> None:
        machine, op, engine = self.machine, self.op, self.engine
        array, softmax, select = machine.array, machine.softmax, self.decisions.local_select
        scores, outputs = (max(array.cycles(rows, op.head_dim), 1) for rows in (op.keys, op.local_values))
        shares, chosen = softmax.cycles(op.keys), max(machine.topk.cycles(*select) if select else 1, 1)
        sram, depth = machine.sram, machine.settings.pipeline.decided
        self._key_buffer = Buffer(engine, sram.lines, sram.settings.outstanding, LINES)
        self._value_buffer = Buffer(engine, sram.lines, sram.settings.outstanding, LINES)
        in_order = machine.settings.fetcher.in_order
        self._fetch = FetchQueue(engine, FETCH, 3, in_order, lambda: self._key_buffer.waiting)
        self.qk = Unit[_Query](
            engine, "qk", QK, source=self._next_query, service=lambda q: q.count * scores,
            latency=array.score_latency(op.head_dim), room=lambda: len(self._scores) < self._request_size,
            deliver=self._scored, ahead=self._keys_ahead, more=lambda: True,
        )  # fmt: skip
        self.softmax = Unit[_Query](
            engine, "softmax", SOFTMAX, source=self._next_scores, service=lambda q: q.count * shares,
            latency=softmax.latency, room=lambda: True, deliver=self._decide, more=lambda: bool(self._scores),
        )  # fmt: skip
        self.select = Unit[_Query](
            engine, "topk_value", SELECT, source=self._next_selection,
            service=lambda q: q.count * (1 if self._free(q) else chosen), latency=0,
            room=lambda: len(self._to_values) < depth, deliver=self._selected,
            more=lambda: bool(self._to_select),
        )  # fmt: skip
        self.pv = Unit[_Query](
            engine, "pv", PV, source=self._next_values, service=lambda q: q.count * outputs,
            latency=array.output_latency(op.head_dim), room=lambda: True, deliver=self._finish,
            ahead=self._values_ahead, more=lambda: bool(self._to_values),
        )  # fmt: skip

    def run(self) -> int:
        """Return the cycles of the op: until the last selection is done and the last output is written."""
        for head in self._heads:
            self._key_buffer.allocate(self._key_lines, partial(self._fetch_keys, head))
            self._value_buffer.allocate(self._value_lines(head), partial(self._value_room, head))
        self.engine.run()
        if self._finished < len(self._heads):
            raise RuntimeError("the pipeline stopped with queries unfinished: a bug in the model")
        return max(self.engine.memory_end, self._compute_end + self.machine.token_head_cycles(self.op))

    def units(self, cycles: int) -> dict[str, UnitCycles]:
        """Return what every unit did in the cycles that `run` returned."""
        barrier = self.machine.token_head_cycles(self.op)
        waited = self._compute_end if barrier else 0
        if self.engine.trace is not None and barrier:
            self.engine.trace.append(("topk", waited, waited + barrier, "token and head selection"))
        return {
            "fetcher": self._fetch.account.close(cycles),
            "qk": self.qk.account.close(cycles),
            "softmax": self.softmax.account.close(cycles),
            "decision": self._decision.close(cycles),
            "topk_value": self.select.account.close(cycles),
            "pv": self.pv.account.close(cycles),
            "topk": UnitCycles(barrier, waited, 0, cycles - waited - barrier),
            "writer": self._fetch.writer.close(cycles),
        }

    # Fetching.

    def _value_lines(self, head: _Head) -> int:
        return self.machine.held_lines(head.group.values, self.op.head_dim)

    def _fetch_keys(self, head: _Head) -> None:
        group, layout = head.group, self.layout
        queries = (layout.query(group.index), group.queries * layout.query_bytes, QUERY)
        parts: list[Part] = [queries, (layout.high(group.index), layout.high_bytes, KEY_HIGH)]
        parts = [part for part in parts if len(part[0])]  # rows of two heads that are one come with the first of them
        self._fetch.request(parts, partial(self._keys_arrived, head), line=KEYS)

    def _keys_arrived(self, head: _Head, data: Finished) -> None:
        head.key_data = data
        self.qk.wake()

    def _value_room(self, head: _Head) -> None:
        head.value_room = True
        head.value_wanted = head.value_wanted or self.decisions.values_in_advance
        self._fetch_values(head)

    def _fetch_values(self, head: _Head) -> None:
        if head.value_room and head.value_wanted:
            head.value_room = False  # asked for once
            if not len(head.value_rows):
                self._values_arrived(head, Finished(0, self.engine.now, self.engine.now))
                return
            values = (self.layout.values(head.group.index, head.value_rows), self.layout.value_bytes, VALUE)
            self._fetch.request([values], partial(self._values_arrived, head), line=VALUES)

    def _values_arrived(self, head: _Head, data: Finished) -> None:
        head.value_data = data
        self.pv.wake()

    def _fetch_low_bits(self, head: _Head) -> None:
        head.low_asked = True
        addresses = self.layout.low(head.group.index)
        parts: list[Part] = [(addresses, self.layout.low_bytes, KEY_LOW)]
        if self.decisions.in_blocks:  # K has streamed by
            parts.insert(0, (self.layout.high(head.group.index), self.layout.high_bytes, KEY_HIGH))
        self._fetch.request(parts, partial(self._low_bits_arrived, head), urgent=True)

    def _low_bits_arrived(self, head: _Head, data: Finished) -> None:
        head.low_data = data
        self.qk.wake()

    # Q x K.

    def _next_query(self) -> _Query | Held | None:
        for query in self._recompute:
            if query.head.low_data is not None:
                self._recompute.remove(query)
                return query
        if self._current == len(self._heads):
            return None
        head = self._heads[self._current]
        if head.key_data is None:
            return None
        opens = head.started % self._request_size == 0
        if opens and not self._requests:
            return None if self._recompute else HELD  # it waits for low bits
        return self._new_query(head, opens)

    def _new_query(self, head: _Head, opens: bool) -> _Query:
        total, low, number = head.group.queries, head.group.low_bit_queries, head.started
        count = total if self.decisions.in_blocks else 1
        head.started += count
        # Which queries need the low bits is not known, only how many: they are spread evenly.
        of_these = head.started * low // total - number * low // total
        closes = head.started % self._request_size == 0 or head.started == total
        query = _Query(head, number, count, of_these, opens, closes or self.decisions.in_blocks)
        self._requests -= opens
        self._order.append(query)
        if head.started == total:
            self._current += 1
        return query

    def _keys_ahead(self, query: _Query, idle_since: int) -> int:
        """The rows of K (or their low bits) that came while the array had nothing else to do are done."""
        if query.again:
            assert query.head.low_data is not None
            since = max(query.head.low_data.first, query.waits_since)
        else:
            assert query.head.key_data is not None
            since = max(query.head.key_data.first, self._request_since if query.opens else 0)
        return self.engine.now - max(since, idle_since) - self._key_fill

    def _scored(self, query: _Query) -> None:
        self._scores.append(query)
        self.softmax.wake()

    def _next_scores(self) -> _Query | None:
        if not self._scores:
            return None
        self.qk.room_freed()
        return self._scores.popleft()

    # The decision: in order, a query a cycle.

    def _decide(self, query: _Query) -> None:
        """Look at the largest probability of a query whose probabilities are there."""
        head = query.head
        if query.low and not query.again:
            query.again, query.count = True, query.low
            query.waits_since = self.engine.now + 1
            self._recompute.append(query)
            if not head.low_asked:
                self._fetch_low_bits(head)
            self.qk.wake()
        else:
            query.final = True
            head.decided += self._members(query)
            if head.decided == head.group.queries:
                self._key_buffer.release(self._key_lines)
        self.engine.wake(self._pass_on, DECISION)

    def _members(self, query: _Query) -> int:
        return query.head.group.queries if self.decisions.in_blocks else 1

    def _pass_on(self) -> None:
        account, order = self._decision, self._order
        selects = self.decisions.local_select is not None
        queue, room = (self._to_select, 1) if selects else (self._to_values, self.machine.settings.pipeline.decided)
        now = self.engine.now
        if account.since > now:
            return  # one a cycle
        if not order or not order[0].final:
            account.note(now, STARVED)
        elif len(queue) >= room:
            account.note(now, BLOCKED)
        else:
            self._pass(order.popleft(), queue)
            account.work(now, 1)
            if order and order[0].final:
                self.engine.at(now + 1, self._pass_on, DECISION)

    def _decision_room_freed(self) -> None:
        if self._decision.state == BLOCKED:
            self.engine.wake(self._pass_on, DECISION)

    def _pass(self, query: _Query, queue: deque[_Query]) -> None:
        if query.closes:
            if not self._requests:
                self._request_since = self.engine.now + 1
            self._requests += 1
            self.qk.wake()
        query.count = self._members(query)
        query.waits_since = self.engine.now
        queue.append(query)
        (self.select if queue is self._to_select else self.pv).wake()

    # Local V, probabilities x V, output.

    def _next_selection(self) -> _Query | None:
        if not self._to_select:
            return None
        self._decision_room_freed()
        return self._to_select.popleft()

    def _free(self, query: _Query) -> bool:
        """Whether a selection takes a cycle only, as in the released test bench for the second of two fused heads."""
        free = self.machine.settings.layout.fused_select_free
        return free and self.layout.fused and query.head.group.index % 2 == 1

    def _selected(self, query: _Query) -> None:
        if not query.head.value_wanted:
            query.head.value_wanted = True
            self._fetch_values(query.head)
        query.waits_since = self.engine.now
        self._to_values.append(query)
        self.pv.wake()

    def _next_values(self) -> _Query | None:
        if not self._to_values or self._to_values[0].head.value_data is None:
            return None
        if self.decisions.local_select is not None:
            self.select.room_freed()
        else:
            self._decision_room_freed()
        return self._to_values.popleft()

    def _values_ahead(self, query: _Query, idle_since: int) -> int:
        data = query.head.value_data
        assert data is not None
        fill = self.machine.fill_cycles(query.head.group.values, self.op.head_dim)
        return self.engine.now - max(data.first, query.waits_since, idle_since) - fill

    def _finish(self, query: _Query) -> None:
        head = query.head
        self._compute_end = self.engine.now
        head.finished += query.count
        if head.finished < head.group.queries:
            return
        self._finished += 1
        self._blocks_left[head.group.index] -= 1
        self._value_buffer.release(self._value_lines(head))
        parts = self._writes(head)
        if parts:
            self._fetch.request(parts, line=WRITES, write=True)

    def _writes(self, head: _Head) -> list[Part]:
        """Return the outputs of a head, and the K and V row of a new token with the last of its queries."""
        write, layout, index = self.machine.settings.write, self.layout, head.group.index
        parts: list[Part] = []
        if write.outputs:
            parts.append((layout.output(index), head.group.queries * layout.output_bytes, OUTPUT))
        if self.op.phase == "generate" and write.new_key_value and not self._blocks_left[index]:
            parts += [(addresses, size, NEW) for addresses, size in layout.appended(index) if len(addresses)]
        return parts
