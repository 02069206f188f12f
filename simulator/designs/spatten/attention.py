"""The attention of one layer on SpAtten, event by event.

K/V head by K/V head, query by query: fetch Q and K, Q x K, softmax, low-bit decision (fetch the low bits of K once per
head, compute again), local-V selection, V, probabilities x V, output. Heads overlap as far as the two SRAMs and the
FIFOs allow; the token and head selections wait for the last head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from simulator.designs.spatten.decide import Decisions, HeadGroup
from simulator.designs.spatten.layout import Layout
from simulator.designs.spatten.machine import Machine
from simulator.engine.event import Action, Engine
from simulator.engine.interface import Rows
from simulator.engine.stations import Batch, Buffer, Credits, FetchQueue, InOrder, Station
from simulator.memory import Finished, Memory
from simulator.workload.ir import AttentionOp

__all__ = ["STREAMS", "AttentionRun"]

STREAMS = ("key_high", "key_low", "value", "query", "output", "new_key_value")
KEY_HIGH, KEY_LOW, VALUE, QUERY, OUTPUT, NEW = range(len(STREAMS))


@dataclass(slots=True, eq=False)
class _Head:
    """One K/V head on its way through the pipeline."""

    group: HeadGroup
    value_rows: Rows
    unfinished: int  # queries
    undecided: int  # queries
    missing: int = 2  # of Q and K
    first_data: int = 0
    last_data: int = 0
    value_room: bool = False
    value_wanted: bool = False
    value_data: Finished | None = None
    waiting_for_values: list[Batch] = field(default_factory=list)
    low_data: Finished | None = None
    waiting_for_low: list[Batch] = field(default_factory=list)


class AttentionRun:
    """One op on one machine; `run` may be called once.

    Parameters
    ----------
    value_rows: for every head group, which of the kept rows of V are fetched.
    """

    def __init__(
        self,
        machine: Machine,
        memory: Memory,
        op: AttentionOp,
        layout: Layout,
        decisions: Decisions,
        value_rows: list[Rows],
    ) -> None:
        self.machine, self.op, self.layout, self.decisions = machine, op, layout, decisions
        self.engine = Engine(memory)
        self.low_rows = 0  # rows of low bits fetched
        self._compute_end = 0
        groups = zip(decisions.groups, value_rows, strict=True)
        self._heads = [_Head(group, rows, group.queries, group.queries) for group, rows in groups]
        self._started = 0  # heads whose queries have been let in
        self._connect()

    def _connect(self) -> None:
        machine, op, engine = self.machine, self.op, self.engine
        array, softmax, select = machine.array, machine.softmax, self.decisions.local_select
        scores, outputs = array.cycles(op.keys, op.head_dim), array.cycles(op.local_values, op.head_dim)
        shares, chosen = softmax.cycles(op.keys), machine.topk.cycles(*select) if select else 0
        self._score_interval, self._output_interval = scores, outputs
        # In front of the slowest unit a queue would grow; if that is the first one, the FIFOs never bind and a head is
        # one batch. Else a batch is what the score FIFO holds.
        self._first_is_slowest = scores >= max(shares, chosen, outputs)

        limits, sram = machine.settings.pipeline, machine.sram
        self._fetch = FetchQueue(engine)
        self._key_buffer = Buffer(sram.lines, sram.settings.outstanding)
        self._value_buffer = Buffer(sram.lines, sram.settings.outstanding)
        self._undecided, self._decided = Credits(limits.undecided), Credits(limits.decided)
        self._decision = InOrder(engine, self._after_decision)
        self._value_gate = InOrder(engine, self._after_values)
        self.qk = Station(engine, lambda _: scores, array.score_latency(op.head_dim), self._after_scores)
        self.softmax = Station(engine, lambda _: shares, softmax.latency, self._after_softmax)
        self.select = Station(engine, lambda _: chosen, 0, self._after_selection)
        self.pv = Station(engine, lambda _: outputs, array.output_latency(op.head_dim), self._after_outputs)

    def run(self) -> int:
        """Return the cycles of the op: until the last selection is done and the last output is written."""
        lines = self.machine.lines(self.op.keys, self.op.head_dim)
        for head in self._heads:
            self._key_buffer.allocate(lines, partial(self._fetch_keys, head))
            self._value_buffer.allocate(self._value_lines(head), partial(self._value_room, head))
        if self.op.phase == "generate" and self.machine.settings.write.new_key_value:
            for head in self._heads:
                for addresses, size in self.layout.appended(head.group.index):
                    self._fetch.request(addresses, size, NEW, write=True)
        end = self.engine.run()
        if any(head.unfinished for head in self._heads):
            raise RuntimeError("the pipeline stopped with queries unfinished: a bug in the model")
        return max(end, self._compute_end + self.machine.token_head_cycles(self.op))

    # Fetching.

    def _value_lines(self, head: _Head) -> int:
        return self.machine.lines(head.group.values, self.op.head_dim)

    def _fetch_keys(self, head: _Head) -> None:
        index, queries = head.group.index, head.group.queries
        arrived = partial(self._operands_arrived, head)
        self._fetch.request(self.layout.query(index), queries * self.layout.query_bytes, QUERY, arrived)
        self._fetch.request(self.layout.high(index), self.layout.high_bytes, KEY_HIGH, arrived)

    def _operands_arrived(self, head: _Head, data: Finished) -> None:
        head.missing -= 1
        head.first_data, head.last_data = max(head.first_data, data.first), max(head.last_data, data.last)
        while self._started < len(self._heads) and not self._heads[self._started].missing:
            self._let_in(self._heads[self._started])
            self._started += 1

    def _value_room(self, head: _Head) -> None:
        head.value_room = True
        head.value_wanted = head.value_wanted or self.decisions.values_in_advance
        self._fetch_values(head)

    def _fetch_values(self, head: _Head) -> None:
        if head.value_room and head.value_wanted:
            head.value_room = False  # asked for once
            addresses = self.layout.values(head.group.index, head.value_rows)
            self._fetch.request(addresses, self.layout.value_bytes, VALUE, partial(self._values_arrived, head))

    def _values_arrived(self, head: _Head, data: Finished) -> None:
        head.value_data = data
        for batch in head.waiting_for_values:
            self._open_value_gate(batch, data)
        head.waiting_for_values.clear()

    # Q x K, softmax, decision.

    def _let_in(self, head: _Head) -> None:
        """Queue a head's queries in front of Q x K, which may follow K row by row as it arrives."""
        ready = max(head.first_data, head.last_data + 1 - self._score_interval)
        total, low = head.group.queries, head.group.low_bit_queries
        whole = self._first_is_slowest and not low
        size = total if whole else self.machine.softmax.queries_in_fifo(self.op.keys)
        for begin in range(0, total, size):
            end = min(begin + size, total)
            batch = Batch(end - begin, ready, ready, head)
            batch.again = end * low // total - begin * low // total  # spread evenly: only their number is known
            self._undecided.take(partial(self._enter, batch))

    def _enter(self, batch: Batch) -> None:
        self._decision.add(batch)
        self.qk.offer(batch, _nothing)

    def _after_scores(self, batch: Batch, accepted: Action) -> None:
        if batch.original is None:
            self.softmax.offer(batch, accepted)
        else:
            self.softmax.offer_urgent(batch)
            accepted()

    def _after_softmax(self, batch: Batch, accepted: Action) -> None:
        accepted()  # the number of undecided batches is bounded before Q x K
        if batch.original is not None:
            self.engine.at(batch.last, partial(self._computed_again, batch))
        elif batch.again:
            self.engine.at(batch.last, partial(self._need_low_bits, batch))
        else:
            self.engine.at(batch.last, partial(self._release_keys, batch))
            self._decision.ready(batch)

    def _need_low_bits(self, batch: Batch) -> None:
        head: _Head = batch.owner
        if head.low_data is not None:
            self._compute_again(batch, head.low_data)
            return
        if not head.waiting_for_low:
            addresses = self.layout.low(head.group.index)
            self.low_rows += len(addresses)
            arrived = partial(self._low_bits_arrived, head)
            self._fetch.request(addresses, self.layout.low_bytes, KEY_LOW, arrived, urgent=True)
        head.waiting_for_low.append(batch)

    def _low_bits_arrived(self, head: _Head, data: Finished) -> None:
        head.low_data = data
        for batch in head.waiting_for_low:
            self._compute_again(batch, data)
        head.waiting_for_low.clear()

    def _compute_again(self, batch: Batch, data: Finished) -> None:
        ready = max(batch.last, data.first, data.last + 1 - self._score_interval)
        self.qk.offer_urgent(Batch(batch.again, ready, ready, batch.owner, original=batch))

    def _computed_again(self, again: Batch) -> None:
        batch = again.original
        assert batch is not None
        batch.first = batch.last = again.last
        self._release_keys(batch)
        self._decision.ready(batch)

    def _release_keys(self, batch: Batch) -> None:
        head: _Head = batch.owner
        head.undecided -= batch.items
        if not head.undecided:
            self._key_buffer.release(self.machine.lines(self.op.keys, self.op.head_dim))

    def _after_decision(self, batch: Batch, accepted: Action) -> None:
        def passed() -> None:
            self._undecided.give()
            accepted()

        if self.decisions.local_select:
            self.select.offer(batch, passed)
        else:
            self._to_values(batch, passed)

    # Local V, probabilities x V, output.

    def _after_selection(self, batch: Batch, accepted: Action) -> None:
        head: _Head = batch.owner
        if not head.value_wanted:
            head.value_wanted = True
            self._fetch_values(head)
        self._to_values(batch, accepted)

    def _to_values(self, batch: Batch, accepted: Action) -> None:
        def enter() -> None:
            self._value_gate.add(batch)
            accepted()
            head: _Head = batch.owner
            if head.value_data is None:
                head.waiting_for_values.append(batch)
            else:
                self._open_value_gate(batch, head.value_data)

        self._decided.take(enter)

    def _open_value_gate(self, batch: Batch, data: Finished) -> None:
        batch.first = max(batch.first, data.first, data.last + 1 - self._output_interval)
        batch.last = max(batch.last, batch.first)
        self._value_gate.ready(batch)

    def _after_values(self, batch: Batch, accepted: Action) -> None:
        def passed() -> None:
            self._decided.give()
            accepted()

        self.pv.offer(batch, passed)

    def _after_outputs(self, batch: Batch, accepted: Action) -> None:
        accepted()
        self.engine.at(batch.last, partial(self._finish, batch))

    def _finish(self, batch: Batch) -> None:
        head: _Head = batch.owner
        self._compute_end = self.engine.now
        head.unfinished -= batch.items
        if head.unfinished:
            return
        self._value_buffer.release(self._value_lines(head))
        if self.machine.settings.write.outputs:
            size = head.group.queries * self.layout.output_bytes
            self._fetch.request(self.layout.output(head.group.index), size, OUTPUT, write=True)


def _nothing() -> None:
    """The batch was counted before; nobody waits for its acceptance."""
