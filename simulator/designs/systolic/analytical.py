"""The systolic baseline in closed form (docs/simulator.md, "Fidelity")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.designs.systolic.attention import HeadPlan
from simulator.engine.analytical import Bound, Dram, IdealDram, longest
from simulator.engine.interface import row_bytes
from simulator.memory import Traffic
from simulator.units import Softmax, SystolicArray
from simulator.workload.ir import AttentionOp

__all__ = ["AttentionEstimate"]


@dataclass(frozen=True)
class AttentionEstimate:
    """One attention op. Parameters: as for `SystolicRun`; output_bits: stored width of the output."""

    dram: Dram | IdealDram
    op: AttentionOp
    plan: HeadPlan
    array: SystolicArray
    softmax: Softmax
    buffer_bytes: int
    output_bits: int

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of a head's K, V, Q and output, which lie behind each other in this order."""
        op, queries = self.op, self.plan.queries
        key = row_bytes(op.head_dim, op.key_msb_bits + op.key_lsb_bits)
        return {
            "key": op.keys * key,
            "value": op.keys * row_bytes(op.head_dim, op.value_bits),
            "query": queries * row_bytes(op.head_dim, op.query_bits),
            "output": queries * row_bytes(op.head_dim, self.output_bits),
        }

    @cached_property
    def traffic(self) -> dict[str, Traffic]:
        """Traffic by stream: every line that a block touches is a burst."""
        found, start, burst = {}, 0, self.dram.spec.organisation.burst_bytes
        heads = np.arange(self.op.kv_heads, dtype=np.int64) * sum(self.sizes.values())
        for name, size in self.sizes.items():
            first, last = (heads + start) // burst, (heads + start + size - 1) // burst
            bursts = int((last - first + 1).sum())
            opened = min(round(self.dram.contiguous(start, size).total_rows) * self.op.kv_heads, bursts)
            found[name] = Traffic(size * self.op.kv_heads, bursts, opened, bursts - opened)
            start += size
        return found

    @cached_property
    def dram_cycles(self) -> float:
        """Cycles that the DRAM takes for everything, with an idle read for each request as long as the window."""
        moved = self.dram.contiguous(0, sum(self.sizes.values()) * self.op.kv_heads)
        return self.dram.cycles(moved, self.op.kv_heads * self._stalls)

    @property
    def _stalls(self) -> float:
        burst = self.dram.spec.organisation.burst_bytes
        alone = sum(size // burst >= self.dram.run_ahead for size in self.sizes.values())
        return alone * (self.dram.idle_read + self.dram.conflict)

    @cached_property
    def cycles(self) -> int:
        """Cycles of the op."""
        return round(longest(self._bounds()).total)

    @cached_property
    def array_cycles(self) -> int:
        """Cycles in which a head keeps the array, Q x K and probabilities x V."""
        return sum(sum(self._block(rows)) * count for rows, count in self.plan.blocks)

    @property
    def softmax_cycles(self) -> int:
        """Cycles in which a head keeps the softmax."""
        return self.plan.queries * self.softmax.cycles(self.op.keys)

    def _block(self, rows: int) -> tuple[int, int]:
        """Cycles of the array for `rows` queries: Q x K, probabilities x V."""
        keys, dim = self.op.keys, self.op.head_dim
        return self.array.occupied_cycles((rows, dim, keys)), self.array.occupied_cycles((rows, keys, dim))

    def _bounds(self) -> Iterator[Bound]:
        heads, plan, drain = self.op.kv_heads, self.plan, self.array.drain_cycles()
        operands = self.sizes["key"] + self.sizes["value"] + self.sizes["query"]
        load = self.dram.idle_read + self.dram.cycles(self.dram.contiguous(0, operands), self._stalls)
        written = self.dram.idle_write + self.dram.cycles(self.dram.contiguous(0, self.sizes["output"]))
        last = plan.queries % plan.block or plan.block
        scores, outputs = self._block(plan.block)[0], self._block(last)[1]
        shares = drain + last * self.softmax.cycles(self.op.keys) + self.softmax.latency
        yield Bound("array", load, heads * self.array_cycles, shares + drain + written)
        after = self.softmax.latency + outputs + drain + written
        yield Bound("softmax", load + scores + drain, heads * self.softmax_cycles, after)
        total = self.dram.idle_read + self.dram_cycles
        rest = scores + shares + outputs + drain + written
        yield Bound("dram", self.dram.idle_read, self.dram_cycles + self.dram.refreshed(total) - total, rest)
        slots = max((self.buffer_bytes - plan.score_bytes) // max(plan.operand_bytes, 1), 1)
        held = load + max(self.array_cycles + shares, scores + drain + self.softmax_cycles + outputs) + drain
        yield Bound("buffer", held, max(heads - slots, 0) / slots * held, written)
