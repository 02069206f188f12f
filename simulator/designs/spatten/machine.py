"""The units of one SpAtten, built from its settings."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.designs.spatten.settings import SpAttenSettings
from simulator.errors import UnsupportedError
from simulator.tech import Technology
from simulator.units import MultiplierArray, Softmax, Sram, TopK
from simulator.workload.ir import AttentionOp

__all__ = ["Machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Both arrays, both SRAMs and both top-k engines are equal pairs; one object describes each pair."""

    settings: SpAttenSettings

    @property
    def array(self) -> MultiplierArray:
        """Q x K, and probabilities x V."""
        return MultiplierArray(self.settings.array.multipliers, self.settings.array.minimum_lanes)

    @property
    def softmax(self) -> Softmax:
        """The softmax unit."""
        return Softmax(self.settings.softmax)

    @property
    def sram(self) -> Sram:
        """The buffer of K, and that of V."""
        line_bits = self.settings.array.multipliers * self.settings.array.element_bits
        return Sram(self.settings.sram, line_bits, Technology(self.settings.technology))

    @property
    def topk(self) -> TopK:
        """The engine for tokens and heads, and the one for local V."""
        return TopK(self.settings.topk)

    def lines(self, rows: int, head_dim: int) -> int:
        """SRAM lines that `rows` rows take: what the array reads in as many cycles, rounded up to whole fills."""
        fill = self.settings.sram.fill_lines
        return -(-self.array.cycles(rows, head_dim) // fill) * fill

    def fill_cycles(self, rows: int, head_dim: int) -> int:
        """Cycles in which filling `rows` rows keeps the array from reading the same buffer."""
        sram = self.settings.sram
        return self.lines(rows, head_dim) // sram.fill_lines if sram.shared_port else 0

    def held_lines(self, rows: int, head_dim: int) -> int:
        """SRAM lines that are allocated for `rows` rows: all of them, or one buffer through which they stream."""
        return min(self.lines(rows, head_dim), self.sram.lines_per_buffer)

    def block(self, op: AttentionOp) -> int | None:
        """Queries that share one pass over K and V where these do not fit in the SRAM; None where they do."""
        if self.lines(op.keys, op.head_dim) <= self.sram.lines_per_buffer:
            return None
        return max(1, self.settings.pipeline.held_scores // op.keys)

    def check_fits(self, op: AttentionOp) -> None:
        """Raise UnsupportedError if the kept keys of a head do not fit in one buffer of the SRAM, nor may stream."""
        needed, held = self.lines(op.keys, op.head_dim), self.sram.lines_per_buffer
        streams = self.settings.kv_tiling == "stream" and held >= self.lines(1, op.head_dim)
        if needed <= held or streams:
            return
        line = self.sram.line_bits // 8
        size = needed * line * self.settings.sram.buffers
        per_line = self.array.rows_per_cycle(op.head_dim)
        most = held * per_line if per_line else held // self.lines(1, op.head_dim)
        raise UnsupportedError(
            f"layer {op.layer} keeps {op.keys} keys of size {op.head_dim}; the K and V SRAM hold {most} per buffer",
            where=f"sram.bytes = {self.settings.sram.bytes}",
            expected=f"{size} bytes ({needed} lines of {line} bytes in each of {self.settings.sram.buffers} buffers)",
            hint=f"--set sram.bytes={size}, a schedule that keeps fewer tokens, or --set kv_tiling=stream, which reads "
            "K and V again for every block of queries",
        )

    def token_head_cycles(self, op: AttentionOp) -> int:
        """Cycles of the selections at the end of a layer, one behind the other on one engine, output pass included."""
        total = 0
        for select in (op.token_select, op.head_select):
            if select is not None and 0 < select[1] < select[0]:
                total += self.topk.cycles(*select)
                total += self.topk.output_cycles(select[0]) if self.settings.topk.output_hidden else 0
        return total
