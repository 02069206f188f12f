"""Linear layers on SpAtten-e2e: the multipliers of both arrays, weights streamed from DRAM through the K and V SRAM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from simulator.designs.spatten.machine import Machine
from simulator.engine.interface import Cost
from simulator.memory import Traffic
from simulator.memory.stream import StreamTime
from simulator.workload.ir import LinearOp

__all__ = ["LINEAR_WRITES", "FullyConnected", "Streaming"]

LINEAR_WRITES = "linear_output"
LONG = 64 << 20  # bytes between two long streams: what a byte of an endless one takes


class Streaming(Protocol):
    """Times contiguous transfers."""

    def time(self, size: int, write: bool = False) -> StreamTime:
        """Return the cost of `size` contiguous bytes."""


@dataclass(frozen=True)
class FullyConnected:
    """Linear layers [tokens x in] x [in x out] on one machine.

    Weights depend on no result, so they stream on from op to op: an op takes its share of one long stream, refreshes
    included, and no latency of the DRAM. Half of both SRAMs holds the inputs of a block of tokens, the other half takes
    the weights, which are read once for each block. Each array takes half of the outputs.

    Parameters
    ----------
    streaming, burst_bytes: of the memory. open_units: ranks of all its channels: a stream keeps a row open in each.
    """

    machine: Machine
    streaming: Streaming
    burst_bytes: int
    open_units: int

    def cycles(self, op: LinearOp) -> int:
        """Cycles of the arrays: tokens x ceil(in / lanes) x ceil(out / rows), rows of both arrays together."""
        array, lanes = self.machine.array, self.machine.settings.array.minimum_lanes
        rows = 2 * max(1, array.multipliers // lanes)
        folds = max(1, -(-lanes // array.multipliers))
        return op.tokens * -(-op.in_features // lanes) * folds * -(-op.out_features // rows)

    def block(self, op: LinearOp) -> int:
        """Tokens whose inputs fit in half of both SRAMs, at the on-chip width; at least one."""
        settings = self.machine.settings
        return min(op.tokens, max(1, 8 * settings.sram.bytes // (op.in_features * settings.array.element_bits)))

    def cost(self, op: LinearOp) -> Cost:
        """Return max(arrays, DRAM) + the latency of the array."""
        if not op.tokens:
            return Cost(0)
        linear, array = self.machine.settings.linear, self.machine.array
        assert linear is not None
        blocks = -(-op.tokens // self.block(op))
        weights = op.in_features * op.out_features
        row, out = (-(-n * linear.activation_bits // 8) for n in (op.in_features, op.out_features))
        moves = {
            "weight": self._share(-(-weights * linear.weight_bits // 8) * blocks, False),
            "activation": self._share(op.tokens * row, False),
            LINEAR_WRITES: self._share(op.tokens * out, True),
        }
        busy, dram = self.cycles(op), round(sum(cycles for cycles, _ in moves.values()))
        cycles = max(busy, dram) + array.score_latency(self.machine.settings.array.minimum_lanes)
        traffic = {name: moved for name, (_, moved) in moves.items()}
        macs, bursts = op.tokens * weights, sum(moved.bursts for moved in traffic.values())
        operations = {"fetcher": bursts, "qk": macs, "pv": macs}  # 2 x half of the multiply-adds each
        units = {"fetcher": min(dram, cycles), "qk": busy, "pv": busy}
        opened = float(self.open_units * dram)
        return Cost(cycles, min(dram, cycles), opened, units, operations, traffic, self._events(op, blocks, traffic))

    def _events(self, op: LinearOp, blocks: int, traffic: dict[str, Traffic]) -> dict[str, float]:
        """Each array has half of the outputs: half of the weights, and all inputs."""
        weights, bits = op.in_features * op.out_features, self.machine.settings.array.element_bits
        macs = op.tokens * weights
        rows = max(1, self.machine.settings.array.multipliers // self.machine.settings.array.minimum_lanes)
        written = (blocks * weights / 2 + op.tokens * op.in_features) * bits
        read = (macs / 2 + macs / (2 * rows)) * bits  # a weight for each product, an input for the products of a cycle
        fetched = sum(moved.bursts for name, moved in traffic.items() if name != LINEAR_WRITES)
        return {
            "qk_macs": macs / 2,
            "pv_macs": macs / 2,
            "key_bits_written": written,
            "key_bits_read": read,
            "value_bits_written": written,
            "value_bits_read": read,
            "fetched_bits": float(fetched * 8 * self.burst_bytes),
        }

    @cached_property
    def _rates(self) -> dict[bool, tuple[float, float]]:
        """Cycles and activations of a byte of a long read, and of a long write."""
        found = {}
        for write in (False, True):
            one, two = (self.streaming.time(n * LONG, write) for n in (1, 2))
            opened = two.traffic.activations - one.traffic.activations
            found[write] = (two.cycles - one.cycles) / LONG, opened / LONG
        return found

    def _share(self, size: int, write: bool) -> tuple[float, Traffic]:
        """Return the cycles and traffic of `size` bytes of a long stream."""
        cycles, opened = (rate * size for rate in self._rates[write])
        bursts = -(-size // self.burst_bytes)
        return cycles, Traffic(size, bursts, round(opened), bursts - min(bursts, round(opened)))
