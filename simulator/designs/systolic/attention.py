"""Dense attention on the systolic array, event by event: load a head, Q x K^T, softmax, probabilities x V, write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from simulator.designs.systolic.linear import LINEAR_READS, LINEAR_WRITES
from simulator.engine.event import Action, Engine, Span
from simulator.engine.interface import row_bytes
from simulator.engine.stations import Batch, Buffer, FetchQueue, Station
from simulator.errors import UnsupportedError
from simulator.memory import Finished, Memory
from simulator.memory.ideal import IdealMemory
from simulator.units import Softmax, SystolicArray
from simulator.workload.ir import AttentionOp

__all__ = ["STREAMS", "HeadPlan", "SystolicRun"]

STREAMS = ("key", "value", "query", "output", *LINEAR_READS, *LINEAR_WRITES)
KEY, VALUE, QUERY, OUTPUT = range(4)
_QUEUE = 1 << 30  # the array's work list is in memory: it never refuses


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """How one K/V head is blocked so that operands and scores fit in the buffer.

    Parameters
    ----------
    queries: of all heads that share K and V. block: queries whose scores are held at a time.
    operand_bytes: K, V and Q on chip. score_bytes: scores of a block.
    """

    queries: int
    block: int
    operand_bytes: int
    score_bytes: int

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Queries of a block, and how many blocks of a head have so many."""
        whole, rest = divmod(self.queries, self.block)
        return tuple((rows, count) for rows, count in ((self.block, whole), (rest, 1)) if rows and count)

    @staticmethod
    def of(op: AttentionOp, buffer_bytes: int, array_rows: int, element_bits: int) -> HeadPlan:
        """Plan with the next head's operands beside this one's where they fit, without where not.

        Raises
        ------
        UnsupportedError: not even one head and `array_rows` queries' scores fit; the size needed is named.
        """
        queries = op.queries * -(-len(op.heads) // op.kv_heads)
        row, scores = row_bytes(op.head_dim, element_bits), row_bytes(op.keys, element_bits)
        operands = (2 * op.keys + queries) * row
        least = min(queries, array_rows) * scores
        for copies in (2, 1):
            left = buffer_bytes - copies * operands
            if left >= least:
                block = min(queries, max(left // max(scores, 1), 1))
                return HeadPlan(queries, block, operands, block * scores)
        raise UnsupportedError(
            f"layer {op.layer}: K, V and Q of one head of {op.keys} keys do not fit in the buffer",
            where=f"sram.bytes = {buffer_bytes}",
            expected=f"{operands + least} bytes",
            hint=f"--set sram.bytes={operands + least}",
        )


class SystolicRun:
    """One dense attention op; `run` may be called once.

    Heads are loaded in order. The array prefers probabilities x V of a block that is ready to Q x K^T of a later one,
    so that the softmax of a block overlaps with Q x K^T of the next. trace: gets what units did when.
    """

    def __init__(
        self,
        memory: Memory | IdealMemory,
        op: AttentionOp,
        plan: HeadPlan,
        array: SystolicArray,
        softmax: Softmax,
        buffer_bytes: int,
        trace: list[Span] | None = None,
    ) -> None:
        self.op, self.plan, self.array = op, plan, array
        self.engine = Engine(memory, trace)
        self._fetch = FetchQueue(self.engine)
        self._buffer = Buffer(self.engine, buffer_bytes - plan.score_bytes, op.kv_heads + 1)
        keys = softmax.cycles(op.keys)
        self.softmax = Station(self.engine, lambda _: keys, softmax.latency, self._after_softmax, _QUEUE, "softmax")
        self.work = Station(self.engine, self._occupied, array.drain_cycles(), self._after_array, _QUEUE, "array")
        self._left = [plan.queries] * op.kv_heads

    def run(self, output_bits: int) -> int:
        """Return the cycles of the op."""
        self._output_bytes = row_bytes(self.op.head_dim, output_bits)
        for head in range(self.op.kv_heads):
            self._buffer.allocate(self.plan.operand_bytes, partial(self._load, head))
        self.engine.run()
        if any(self._left):
            raise RuntimeError("the array stopped with queries unfinished: a bug in the model")
        return self.engine.memory_end

    def _load(self, head: int) -> None:
        op, plan = self.op, self.plan
        key, value = (row_bytes(op.head_dim, bits) for bits in (op.key_msb_bits + op.key_lsb_bits, op.value_bits))
        query = row_bytes(op.head_dim, op.query_bits)
        sizes = (op.keys * key, op.keys * value, plan.queries * query, plan.queries * self._output_bytes)
        self._base = sum(sizes)
        start = head * self._base
        missing = {KEY, VALUE, QUERY}

        def arrived(stream: int, _: Finished) -> None:
            missing.discard(stream)
            if not missing:
                self._start(head)

        for stream, size in zip((KEY, VALUE, QUERY), sizes[:3], strict=True):
            self._fetch.request([(_at(start), size, stream)], partial(arrived, stream))
            start += size

    def _start(self, head: int) -> None:
        now = self.engine.now
        for begin in range(0, self.plan.queries, self.plan.block):
            rows = min(self.plan.block, self.plan.queries - begin)
            self.work.offer(Batch(1, now, now, (head, rows, "scores")), _nothing)

    def _occupied(self, batch: Batch) -> int:
        _, rows, kind = batch.owner
        inner, outputs = (self.op.head_dim, self.op.keys) if kind == "scores" else (self.op.keys, self.op.head_dim)
        return self.array.occupied_cycles((rows, inner, outputs))

    def _after_array(self, batch: Batch, accepted: Action) -> None:
        accepted()
        head, rows, kind = batch.owner
        if kind == "scores":
            self.softmax.offer(Batch(rows, batch.last, batch.last, head), _nothing)
            return
        self._left[head] -= rows
        if not self._left[head]:
            self._buffer.release(self.plan.operand_bytes)
            size = self.plan.queries * self._output_bytes
            self._fetch.request([(_at((head + 1) * self._base - size), size, OUTPUT)], write=True)

    def _after_softmax(self, batch: Batch, accepted: Action) -> None:
        accepted()
        self.engine.at(batch.last, partial(self._multiply_values, batch))

    def _multiply_values(self, batch: Batch) -> None:
        self.work.offer_urgent(Batch(1, batch.last, batch.last, (batch.owner, batch.items, "values")))


def _at(address: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([address], dtype=np.int64)


def _nothing() -> None:
    """Nobody waits: the queues of this design never refuse."""
