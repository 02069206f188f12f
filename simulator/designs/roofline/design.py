"""A processor as a roofline: no op takes less than its operations at the peak, or its bytes at the bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from simulator.designs.roofline.settings import RooflineSettings
from simulator.engine.interface import Cost, Design, DesignSettings, Energy, Fidelity, Op, Rows
from simulator.errors import UnsupportedError
from simulator.memory import Traffic
from simulator.memory.ideal import IdealSpec
from simulator.tech import Area
from simulator.workload.ir import AttentionOp, LinearOp, OtherOp

__all__ = ["Bandwidth", "Roofline"]

READS = ("weight", "metadata", "activation", "query", "key", "value", "other")
WRITES = ("linear_output", "output")


@dataclass(frozen=True, slots=True)
class Bandwidth(IdealSpec):
    """A memory of which only the bandwidth is known; no request is sent to it."""

    gb_per_s: float = 1.0

    @property
    def peak_gb_per_s(self) -> float:
        """Return the bandwidth, 1 GB = 1e9 bytes."""
        return self.gb_per_s

    @property
    def description(self) -> str:
        """Return the bandwidth in words."""
        return f"{self.gb_per_s:g} GB/s"


class Roofline(Design):
    """Time = max(operations / peak, bytes / bandwidth) of each op: Williams et al., Roofline, CACM 2009.

    Every operand crosses the pins once; scores of attention stay on the chip. So no kernel is faster on operands that
    lie in memory; one whose operands lie in a cache from the run before may be.
    """

    settings_model: ClassVar[type[DesignSettings]] = RooflineSettings
    folder = Path(__file__).parent
    streams = (*READS, *WRITES)
    written_streams = frozenset(WRITES)
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {}
    prunes = False
    fidelities = ("event", "analytical")

    def __init__(self, settings: RooflineSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.settings = settings
        self.peaks = settings.ceilings.gops()
        self.gb_per_s = settings.ceilings.gb_per_s()
        self.amounts = {}  # a processor has no part that could be made equal to another design's
        self.memory_spec = Bandwidth(0, 1, self.clock_ghz, settings.line_bytes, self.gb_per_s)

    def run_ahead_bursts(self, settings: RooflineSettings) -> int:
        """Return 1: no request is under way."""
        return 1

    @property
    def peak_gops(self) -> float:
        """Return the highest of the peaks that ops can use."""
        return max(self.peaks.values()) if self.settings.bits is None else self.peaks[self.width(self.settings.bits)]

    def runs(self, op: Op) -> bool:
        """Return True: a processor runs everything."""
        return True

    def width(self, bits: int) -> int:
        """Return the narrowest width of the machine's units that holds `bits`.

        Raises
        ------
        UnsupportedError: no unit is so wide.
        """
        wanted = self.settings.bits or bits
        fitting = [width for width in self.peaks if width >= wanted]
        if not fitting:
            widest = max(self.peaks)
            raise UnsupportedError(
                f"no unit multiplies {wanted} bit",
                where="bits",
                expected=f"at most {widest}",
                hint=f"--set bits={widest} runs everything at that width",
            )
        return min(fitting)

    def signature(self, op: Op, rows: Rows | None) -> object:
        """Return the sizes of `op`."""
        if isinstance(op, AttentionOp):
            bits = (op.query_bits, op.key_msb_bits + op.key_lsb_bits, op.value_bits)
            return "attention", op.queries, op.keys, len(op.heads), op.kv_heads, op.head_dim, bits
        if isinstance(op, LinearOp):
            return "linear", op.tokens, op.in_features, op.out_features, op.weight_bits, op.pattern, op.density
        return "other", op.operations, op.bytes

    def dense(self, op: Op) -> Op:
        """Return `op` as it is run: a pruned weight is stored and multiplied with its zeros."""
        return replace(op, pattern="dense", density=1.0) if isinstance(op, LinearOp) else op

    def simulate(self, op: Op, rows: Rows | None) -> Cost:
        """Return the larger of both bounds. Raises UnsupportedError: an operand is wider than all units."""
        if isinstance(op, OtherOp):
            return self.bounded(op.operations, op.operations / self.peaks[max(self.peaks)], {"other": op.bytes})
        if isinstance(op, AttentionOp):
            return self._attention(op)
        return self._linear(op)

    def estimate(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return the same: a roofline is a closed form."""
        return self.simulate(op, rows)

    def _linear(self, op: LinearOp) -> Cost:
        bits = self.width(op.weight_bits)
        sizes = {
            "weight": op.in_features * op.out_features * bits,
            "activation": op.tokens * op.in_features * bits,
            "linear_output": op.tokens * op.out_features * bits,
        }
        moved = {name: -(-size // 8) for name, size in sizes.items()} if op.tokens else {}
        return self.bounded(op.operations, self.linear_ns(op, bits), moved)

    def linear_ns(self, op: LinearOp, bits: int) -> float:
        """Return the time of a linear layer's operations."""
        return op.operations / self.peaks[bits]

    def _attention(self, op: AttentionOp) -> Cost:
        if not (op.queries and op.keys and op.heads):
            return self.bounded(0, 0.0, {})
        bits = self.width(max(op.query_bits, op.key_msb_bits + op.key_lsb_bits, op.value_bits))
        row, queries = op.head_dim * bits, op.queries * len(op.heads)
        sizes = {"query": queries * row, "output": queries * row}
        sizes |= dict.fromkeys(("key", "value"), op.keys * op.kv_heads * row)
        moved = {name: -(-size // 8) for name, size in sizes.items()}
        return self.bounded(op.operations, self.attention_ns(op, bits), moved)

    def attention_ns(self, op: AttentionOp, bits: int) -> float:
        """Return the time of attention's operations; the softmax costs none."""
        return op.operations / self.peaks[bits]

    def bounded(self, operations: int, compute_ns: float, moved: dict[str, int]) -> Cost:
        """Return max(operations, bytes): `compute_ns` for the operations, `moved` bytes by stream."""
        memory_ns = sum(moved.values()) / self.gb_per_s
        compute, memory = (math.ceil(ns * self.clock_ghz) for ns in (compute_ns, memory_ns))
        line = self.settings.line_bytes
        traffic = {name: Traffic(size, -(-size // line), 0, -(-size // line)) for name, size in moved.items()}
        busy = {"compute": compute, "fetcher": memory}
        done = {"compute": operations, "fetcher": sum(t.bursts for t in traffic.values())}
        return Cost(max(compute, memory), memory, 0.0, busy, done, traffic)

    def remarks(self, op: Op) -> tuple[str, ...]:
        """Return what kind of ceilings these are."""
        how = "measured ceilings" if self.settings.kind == "measured" else "ceilings of a data sheet"
        bound = "a roofline: a bound that kernels stay below, the same at every fidelity"
        return (f"{how}: {self.settings.source}", bound)

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the thermal design power times the time, which no average exceeds; nothing where it is not known."""
        if self.settings.power_w is None:
            return {}
        pj = self.settings.power_w * cost.cycles / self.clock_ghz * 1e3  # W x ns = nJ
        source = (
            f"thermal design power {self.settings.power_w:g} W times the time, an upper bound; {self.settings.source}"
        )
        return {"logic.board": Energy(pj, "logic", source, "assumed", 0.0, pj)}

    def areas(self) -> tuple[Area, ...]:
        """Return the die."""
        die = self.settings.die_mm2
        return () if die is None else (Area("die", die, self.settings.source, self.settings.kind),)
