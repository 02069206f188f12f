"""A systolic array as a design: dense attention and linear layers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from simulator.designs.systolic.analytical import AttentionEstimate
from simulator.designs.systolic.attention import STREAMS, HeadPlan, SystolicRun
from simulator.designs.systolic.linear import LINEAR_WRITES, Mapping, Streaming
from simulator.designs.systolic.settings import SystolicSettings
from simulator.designs.systolic.tiling import Storage, parse_tiling
from simulator.engine.analytical import Dram, IdealDram, StreamEstimate, closed_forms
from simulator.engine.interface import Cost, Design, Energy, Fidelity, Op, Rows
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource
from simulator.errors import InvalidValueError, UnsupportedError
from simulator.memory import Traffic
from simulator.memory.stream import StreamTimer
from simulator.tech import Area, Constant, Silicon, SramMacro, Technology
from simulator.units import Arithmetic, Fetcher, Softmax, SystolicArray
from simulator.units.arithmetic import DIVIDER_BITS, EXPONENT_ORDER
from simulator.workload.ir import AttentionOp, LinearOp

__all__ = ["Systolic"]

SOFTMAX_BITS = 32  # values in the softmax (fp32)


class Systolic(Design):
    """An array of one dataflow without any pruning; ops come to it in their dense form."""

    settings_model = SystolicSettings
    folder = Path(__file__).parent
    streams = STREAMS
    written_streams = frozenset(("output", *LINEAR_WRITES))
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {
        "array": ("logic.array", "sram.buffer"),
        "softmax": ("logic.softmax",),
    }
    prunes = False
    area_note = Silicon.area_note
    fidelities = ("event", "analytical")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("array.rows", "array.columns")),
        SRAM: Resource(("sram.bytes",)),
    }

    def __init__(self, settings: SystolicSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.settings = settings
        shape = settings.array
        self.array = SystolicArray(shape.rows, shape.columns, shape.dataflow, shape.overlap)
        self.tiling = parse_tiling(settings.tiling)
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
        bits, sum_bits = self.settings.array.element_bits, self.settings.array.accumulator_bits
        traffic = cost.traffic
        pairs = op.kv_heads * plan.queries * op.keys
        macs = 2 * pairs * op.head_dim
        operands = op.kv_heads * (2 * op.keys + plan.queries) * op.head_dim
        read, written = pairs * bits, (operands + pairs) * bits  # the softmax reads each score and writes a probability
        for rows, count in plan.blocks:
            for product in ((rows, op.head_dim, op.keys), (rows, op.keys, op.head_dim)):
                inputs, held, sums, again = self.array.accesses(product)
                read += op.kv_heads * count * ((inputs + held) * bits + again * sum_bits)
                # Complete results leave at the operands' width, what is added up further at that of the sums.
                partial = sums - product[0] * product[2]
                written += op.kv_heads * count * ((sums - partial) * bits + partial * sum_bits)
        events = {
            "macs": float(macs),
            "probabilities": float(pairs),
            "bits_written": float(written),
            "bits_read": float(read),
        }
        operations = {"fetcher": sum(t.bursts for t in traffic.values()), "array": 2 * macs, "softmax": pairs}
        return replace(cost, operations=operations, events=events)

    def mapping(self, op: LinearOp) -> Mapping:
        """Return how a linear layer is laid over array and buffer.

        Raises
        ------
        UnsupportedError: not even the smallest tiles fit. InvalidValueError: the tiling of the settings is not legal.
        """
        s, whole = self.settings, (op.tokens, op.in_features, op.out_features)
        bits = (s.linear_bits, s.linear_bits, s.array.accumulator_bits, s.linear_bits)
        storage = Storage(s.sram.bytes, s.sram.double_buffered, *bits)
        if s.sram.keeps_activations:
            resident = Mapping(whole, self.array, replace(storage, resident=True), self.tiling)
            with suppress(UnsupportedError, InvalidValueError):  # they do not fit beside the tiles
                resident.tiles  # noqa: B018 (is found once, here or later)
                return resident
        return Mapping(whole, self.array, storage, self.tiling)

    def _linear(self, op: LinearOp, streaming: Streaming) -> Cost:
        mapping = self.mapping(op)
        moves = mapping.moves(streaming)
        cycles, dram = mapping.cycles(streaming)
        macs = op.tokens * op.in_features * op.out_features
        traffic = {name: move.traffic for name, move in moves.items()}
        operations = {"fetcher": sum(t.bursts for t in traffic.values()), "array": 2 * macs}
        opened = float(self.memory_spec.units * dram)  # a stream keeps a row open in each of them
        busy = {"fetcher": dram, "array": min(mapping.array_cycles, cycles)}
        return Cost(cycles, dram, opened, busy, operations, traffic, {"macs": float(macs), **mapping.accesses()})

    def remarks(self, op: Op) -> tuple[str, ...]:
        """Return the tiling of a linear layer, its DRAM bytes, and the cycles of the array alone."""
        if not isinstance(op, LinearOp) or not op.tokens:
            return ()
        mapping = self.mapping(op)
        whole = "{} x {} x {}".format(*mapping.whole)
        stall_free = self.array.stall_free_cycles(mapping.whole)
        return (
            f"linear {whole}: tiling {mapping.tiles}, {sum(mapping.bytes.values())} DRAM bytes"
            f"{' (inputs and outputs stay on the chip)' if mapping.storage.resident else ''}, "
            f"{mapping.array_cycles} cycles of the array, {stall_free} if nothing were cut",
        )

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
            "sram.buffer": Energy.plain(access / s.port_bits, "sram", macro.source_of("read", "write")),
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
        softmax = self.softmax.latency * self.softmax.settings.parallelism * SOFTMAX_BITS
        return {"array": float(cells * (3 * bits + self.settings.array.accumulator_bits)), "softmax": float(softmax)}

    @cached_property
    def _leakage(self) -> Constant:
        return self.silicon.leakage(self.areas())

    def areas(self) -> tuple[Area, ...]:
        """Return the area of array, softmax and buffer."""
        bits, cells, silicon = self.settings.array.element_bits, self.array.multipliers, self.silicon
        lanes = self.softmax.settings.parallelism * (1 + EXPONENT_ORDER)
        return (
            silicon.multipliers("array.multipliers", cells, bits),
            silicon.adders("array.adders", cells, self.settings.array.accumulator_bits),
            silicon.registers("array.registers", self._registers["array"]),
            silicon.floating("softmax.floating_point", lanes, lanes),
            silicon.adders("softmax.dividers", self.softmax.settings.parallelism * DIVIDER_BITS, DIVIDER_BITS),
            silicon.registers("softmax.registers", self._registers["softmax"]),
            silicon.sram("buffer.sram", self._macro, -(-self.settings.sram.bytes // self.settings.sram.macro_bytes)),
        )
