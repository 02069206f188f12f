"""The systolic baseline as a design: dense attention and linear layers."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from simulator.designs.systolic.analytical import AttentionEstimate
from simulator.designs.systolic.attention import STREAMS, HeadPlan, SystolicRun
from simulator.designs.systolic.settings import SystolicSettings
from simulator.engine.analytical import Dram, IdealDram, StreamEstimate, closed_forms
from simulator.engine.interface import Cost, Design, Energy, Fidelity, Op, Rows
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource
from simulator.memory import Traffic
from simulator.memory.stream import StreamTimer
from simulator.tech import Area, Constant, Silicon, SramMacro, Technology
from simulator.units import Arithmetic, Fetcher, Softmax, SystolicArray
from simulator.units.arithmetic import DIVIDER_BITS, EXPONENT_ORDER
from simulator.workload.ir import AttentionOp, LinearOp

__all__ = ["Systolic"]

ACCUMULATOR_BITS = 32  # partial sums, and values in the softmax (fp32)


class Systolic(Design):
    """A weight-stationary array without any pruning; ops come to it in their dense form."""

    settings_model = SystolicSettings
    folder = Path(__file__).parent
    streams = STREAMS
    written_streams = frozenset(("output", "linear_output"))
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {
        "array": ("logic.array", "sram.buffer"),
        "softmax": ("logic.softmax",),
    }
    prunes = False
    fidelities = ("event", "analytical")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("array.rows", "array.columns")),
        SRAM: Resource(("sram.bytes",)),
    }

    def __init__(self, settings: SystolicSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.settings = settings
        self.array = SystolicArray(settings.array.rows, settings.array.columns)
        self.softmax = Softmax(settings.softmax)
        self.streaming = StreamTimer(self.memory)
        technology = Technology(settings.technology)
        self.arithmetic = Arithmetic(settings.energy, technology)
        self.silicon = Silicon(settings.silicon, technology)
        self.on_chip_energy(Cost(0))  # a constant or a node that does not fit is named here, not after a run

    def run_ahead_bursts(self, settings: SystolicSettings) -> int:
        """Return the space of the data FIFOs in bursts."""
        return Fetcher(settings.fetcher).run_ahead_bursts(self.memory_spec.organisation.burst_bytes)

    @property
    def peak_gops(self) -> float:
        """Return the roof of the array."""
        return 2 * self.settings.array.rows * self.settings.array.columns * self.clock_ghz

    def runs(self, op: Op) -> bool:
        """Return whether `op` is attention or a linear layer."""
        return isinstance(op, (AttentionOp, LinearOp))

    def signature(self, op: Op, rows: Rows | None) -> object:
        """Return the sizes of `op`."""
        if isinstance(op, AttentionOp):
            bits = (op.query_bits, op.key_msb_bits + op.key_lsb_bits, op.value_bits)
            return "attention", op.queries, op.keys, len(op.heads), op.kv_heads, op.head_dim, bits
        assert isinstance(op, LinearOp)
        return "linear", op.tokens, op.in_features, op.out_features

    def check(self, op: AttentionOp) -> None:
        """Raise UnsupportedError if the operands of one head do not fit in the buffer."""
        self._plan(op)

    def simulate(self, op: Op, rows: Rows | None) -> Cost:
        """Return the cost of an op in its dense form.

        Raises
        ------
        UnsupportedError: the operands of one head do not fit in the buffer.
        """
        if isinstance(op, AttentionOp):
            return self._attention(op) if op.keys and op.queries and op.heads else Cost(0)
        assert isinstance(op, LinearOp)
        return self._linear(op, self.streaming) if op.tokens else Cost(0)

    def estimate(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return the cost of an op in its dense form, by closed forms; raises as `simulate`."""
        if isinstance(op, AttentionOp):
            return self._estimated_attention(op) if op.keys and op.queries and op.heads else Cost(0)
        assert isinstance(op, LinearOp)
        return self._linear(op, StreamEstimate(self._dram)) if op.tokens else Cost(0)

    @cached_property
    def _dram(self) -> Dram | IdealDram:
        return closed_forms(self.memory_spec, self.clock_ghz, self.memory.run_ahead_bursts)

    def _plan(self, op: AttentionOp) -> HeadPlan:
        return HeadPlan.of(op, self.settings.sram.bytes, self.array.rows, self.settings.array.element_bits)

    def _estimated_attention(self, op: AttentionOp) -> Cost:
        size, output = self.settings.sram.bytes, self.settings.output_bits
        found = AttentionEstimate(self._dram, op, self._plan(op), self.array, self.softmax, size, output)
        cycles, heads = found.cycles, op.kv_heads
        active = min(round(self._dram.idle_read + found.dram_cycles), cycles)
        busy = {"fetcher": active, "array": heads * found.array_cycles, "softmax": heads * found.softmax_cycles}
        opened = self._dram.open_cycles(cycles, found.dram_cycles, 2 * heads)
        traffic = {name: found.traffic.get(name, Traffic()) for name in self.streams}
        return self._counted(op, found.plan, Cost(cycles, active, opened, busy, traffic=traffic))

    def _attention(self, op: AttentionOp) -> Cost:
        plan = self._plan(op)
        run = SystolicRun(self.memory, op, plan, self.array, self.softmax, self.settings.sram.bytes, self.spans)
        cycles = run.run(self.settings.output_bits)
        active, opened = run.engine.memory_active_cycles, self.memory.open_cycles(cycles)
        busy = {"fetcher": active, "array": run.work.busy_cycles, "softmax": run.softmax.busy_cycles}
        return self._counted(op, plan, Cost(cycles, active, opened, busy, traffic=self.memory.traffic()))

    def _counted(self, op: AttentionOp, plan: HeadPlan, cost: Cost) -> Cost:
        """Return `cost` with the operations and events of an attention op."""
        bits, traffic = self.settings.array.element_bits, cost.traffic
        pairs = op.kv_heads * plan.queries * op.keys
        macs = 2 * pairs * op.head_dim
        operands = op.kv_heads * (2 * op.keys + plan.queries) * op.head_dim
        blocks = op.kv_heads * -(-plan.queries // plan.block)
        # Stationary tiles (K, V) are read once a block; streamed rows (Q, probabilities) once for each column of tiles;
        # the softmax reads each score once.
        rows, width = op.kv_heads * plan.queries, self.array.columns
        streamed = rows * op.head_dim * -(-op.keys // width) + pairs * -(-op.head_dim // width)
        read = 2 * blocks * op.keys * op.head_dim + streamed + pairs
        events = {
            "macs": float(macs),
            "probabilities": float(pairs),
            "bits_written": float((operands + 2 * pairs) * bits),
            "bits_read": float(read * bits),
        }
        operations = {"fetcher": sum(t.bursts for t in traffic.values()), "array": 2 * macs, "softmax": pairs}
        return replace(cost, operations=operations, events=events)

    def _linear(self, op: LinearOp, streaming: StreamTimer | StreamEstimate) -> Cost:
        """Double-buffered: max(array, DRAM) + drain, with all weights read once for each block of rows that fits."""
        width, inner, outputs = self.settings.linear_bits, op.in_features, op.out_features
        row = -(-inner * width // 8)
        block = min(op.tokens, max(self.settings.sram.bytes // 2 // row, 1))
        blocks = -(-op.tokens // block)
        whole, rest = divmod(op.tokens, block)
        occupied = whole * self.array.occupied_cycles(block, inner, outputs)
        occupied += self.array.occupied_cycles(rest, inner, outputs) if rest else 0
        moves = {
            "weight": streaming.time(-(-inner * outputs * width // 8) * blocks),
            "activation": streaming.time(op.tokens * row),
            "linear_output": streaming.time(op.tokens * -(-outputs * width // 8), True),
        }
        dram = sum(move.cycles for move in moves.values())
        macs = op.tokens * inner * outputs
        traffic: dict[str, Traffic] = {name: move.traffic for name, move in moves.items()}
        read = op.tokens * inner * -(-outputs // self.array.columns) + inner * outputs * blocks
        events = {
            "macs": float(macs),
            "bits_written": float((op.tokens * inner + inner * outputs * blocks) * width),
            "bits_read": float(read * width),
        }
        operations = {"fetcher": sum(t.bursts for t in traffic.values()), "array": 2 * macs}
        cycles = max(occupied, dram) + self.array.drain_cycles()
        opened = float(self.memory_spec.units * dram)  # a stream keeps a row open in each of them
        return Cost(cycles, dram, opened, {"fetcher": dram, "array": occupied}, operations, traffic, events)

    def dense(self, op: Op) -> Op:
        """Return `op` as the array sees it: a pruned weight is stored and multiplied with its zeros."""
        return replace(op, pattern="dense", density=1.0) if isinstance(op, LinearOp) else op

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of array, softmax and buffer."""
        settings, events, s = self.settings, cost.events, self.settings.sram
        macro, time_ns = self._macro, cost.cycles / self.clock_ghz
        access = events.get("bits_written", 0.0) * macro.write_pj + events.get("bits_read", 0.0) * macro.read_pj
        mac = self.arithmetic.multiply_add_pj(settings.array.element_bits)
        register, leakage = self.silicon.register_pj(), self._leakage
        source = self.arithmetic.source

        def unit(name: str, event: str, pj: float) -> Energy:
            clocked = self._registers[name] * cost.busy_cycles.get(name, 0) * register.value
            return Energy.plain(events.get(event, 0.0) * pj + clocked, "logic", source)

        idle = sum(bits * max(0, cost.cycles - cost.busy_cycles.get(name, 0)) for name, bits in self._registers.items())
        low, high = leakage.low * time_ns, leakage.high * time_ns
        standing = -(-s.bytes // s.macro_bytes) * macro.leakage_mw * time_ns
        return {
            "logic.array": unit("array", "macs", mac),
            "logic.softmax": unit("softmax", "probabilities", self.arithmetic.probability_pj()),
            "sram.buffer": Energy.plain(access / s.port_bits, "sram", macro.source),
            "logic.idle_clocks": Energy.plain(idle * self.silicon.idle_register_pj(), "logic", register.source),
            "logic.leakage": Energy(leakage.value * time_ns, "logic", leakage.source, leakage.kind, low, high),
            "sram.leakage": Energy.plain(standing, "sram", macro.source),
        }

    @property
    def _macro(self) -> SramMacro:
        s = self.settings.sram
        return self.silicon.technology.macro(s.table, s.macro_bytes, s.port_bits, "sram")

    @cached_property
    def _registers(self) -> dict[str, float]:
        """Register bits: two operands and a partial sum in every cell; a word in each stage of the softmax."""
        bits, cells = self.settings.array.element_bits, self.array.multipliers
        softmax = self.softmax.latency * self.softmax.settings.parallelism * ACCUMULATOR_BITS
        return {"array": float(cells * (3 * bits + ACCUMULATOR_BITS)), "softmax": float(softmax)}

    @cached_property
    def _leakage(self) -> Constant:
        return self.silicon.leakage(self.areas())

    def areas(self) -> tuple[Area, ...]:
        """Return the area of array, softmax and buffer."""
        bits, cells, silicon = self.settings.array.element_bits, self.array.multipliers, self.silicon
        lanes = self.softmax.settings.parallelism * (1 + EXPONENT_ORDER)
        return (
            silicon.multipliers("array.multipliers", cells, bits),
            silicon.adders("array.adders", cells, ACCUMULATOR_BITS),
            silicon.registers("array.registers", self._registers["array"]),
            silicon.floating("softmax.floating_point", lanes, lanes),
            silicon.adders("softmax.dividers", self.softmax.settings.parallelism * DIVIDER_BITS, DIVIDER_BITS),
            silicon.registers("softmax.registers", self._registers["softmax"]),
            silicon.sram("buffer.sram", self._macro, -(-self.settings.sram.bytes // self.settings.sram.macro_bytes)),
        )
