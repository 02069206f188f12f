"""SpAtten as a design: it runs attention; linear layers and everything else are left to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from simulator.designs.spatten.analytical import Estimate
from simulator.designs.spatten.attention import STREAMS, AttentionRun
from simulator.designs.spatten.authors import LayerCycles, program_cycles
from simulator.designs.spatten.blocks import SAMPLE, extrapolated, first_blocks
from simulator.designs.spatten.decide import Decisions
from simulator.designs.spatten.energy import OnChip
from simulator.designs.spatten.fully_connected import LINEAR_WRITES, FullyConnected, Streaming
from simulator.designs.spatten.layout import Layout
from simulator.designs.spatten.machine import Machine
from simulator.designs.spatten.profile import executed
from simulator.designs.spatten.settings import SpAttenSettings
from simulator.engine.analytical import Dram, IdealDram, StreamEstimate, closed_forms
from simulator.engine.interface import Cost, Design, Energy, Fidelity, Op, Rows
from simulator.engine.resources import MULTIPLIERS, SRAM, Resource
from simulator.errors import UnsupportedError
from simulator.memory import Traffic
from simulator.memory.stream import StreamTimer
from simulator.tech import Area, Silicon
from simulator.units import Fetcher
from simulator.workload.ir import AttentionOp, Kind, LinearOp

__all__ = ["SpAtten"]


class SpAtten(Design):
    """The machine of the SpAtten paper, at any size its settings give."""

    settings_model = SpAttenSettings
    folder = Path(__file__).parent
    streams = STREAMS
    written_streams = frozenset(("output", "new_key_value", LINEAR_WRITES))
    area_note = Silicon.area_note
    fidelities = ("event", "analytical", "authors")
    resources: ClassVar[dict[str, Resource]] = {
        MULTIPLIERS: Resource(("array.multipliers",), factor=2),  # Q x K and prob x V
        SRAM: Resource(("sram.bytes",), factor=2),  # K and V
    }
    energy_units: ClassVar[dict[str, tuple[str, ...]]] = {
        "fetcher": ("sram.fetch_fifo", "logic.wires"),
        "qk": ("logic.qk", "sram.key"),
        "softmax": ("logic.softmax", "logic.importance"),
        "topk": ("logic.topk",),
        "topk_value": ("logic.topk_value",),
        "decision": (),
        "pv": ("logic.pv", "sram.value"),
    }

    def __init__(self, settings: SpAttenSettings, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.settings = settings
        self.machine = Machine(settings)
        self.on_chip = OnChip(self.machine, self.clock_ghz)

    def run_ahead_bursts(self, settings: SpAttenSettings) -> int:
        """Return the space of the data FIFOs in bursts."""
        return Fetcher(settings.fetcher).run_ahead_bursts(self.memory_spec.organisation.burst_bytes)

    @property
    def peak_gops(self) -> float:
        """Return the roof of both arrays: 2 TFLOPS for the published size, as in the paper's roofline."""
        return 2 * 2 * self.settings.array.multipliers * self.clock_ghz

    def runs(self, op: Op) -> bool:
        """Return whether `op` is attention, or a linear layer where the settings have them run here."""
        return isinstance(op, AttentionOp) or (self.settings.linear is not None and isinstance(op, LinearOp))

    def _compact(self, op: AttentionOp) -> bool:
        layout = self.settings.layout
        return (layout.summarise if op.phase == "summarise" else layout.generate) == "compact"

    def signature(self, op: Op, rows: Rows | None) -> object:
        """Return `op` without its place in the model, and the positions where they matter."""
        if isinstance(op, LinearOp):
            return "linear", op.tokens, op.in_features, op.out_features
        assert isinstance(op, AttentionOp)
        same = replace(op, layer=0, sequence=0, step=0, heads=tuple(range(len(op.heads))), key_ids=None, kind={})
        positions = None if rows is None or self._compact(op) else rows.tobytes()
        fields = tuple(getattr(same, name) for name in same.__slots__ if name != "kind")
        return fields, positions

    def check(self, op: AttentionOp) -> None:
        """Raise UnsupportedError if the kept keys of a head do not fit in a buffer of the SRAM."""
        self.machine.check_fits(executed(op, self.settings.layout))

    def simulate(self, op: Op, rows: Rows | None) -> Cost:
        """Return the cost of one attention op.

        Raises
        ------
        UnsupportedError: the kept keys of a head do not fit in a buffer of the SRAM.
        """
        if isinstance(op, LinearOp):
            return self._linear_simulated.cost(op)
        assert isinstance(op, AttentionOp)
        op = executed(op, self.settings.layout)
        self.machine.check_fits(op)
        decisions = Decisions.of(op, self.machine.block(op))
        if not op.keys or not decisions.groups:
            return Cost(self.machine.token_head_cycles(op))
        layout = self._layout(op, rows, decisions)
        cost = self._of_all_blocks(lambda part: self._run(op, layout, part), layout, decisions)
        return self._counted(cost, op, decisions)

    def _of_all_blocks(
        self, cost: Callable[[Decisions], Cost], layout: Layout, decisions: Decisions, sample: int = SAMPLE
    ) -> Cost:
        """Return what `cost` says of `decisions`; of many equal blocks from what it says of the first of them."""
        if not decisions.in_blocks or len(decisions.groups) <= 2 * sample:
            return cost(decisions)
        with self.unwatched():  # the longer run has all that this one does
            half = cost(first_blocks(decisions, sample))
        full = cost(first_blocks(decisions, 2 * sample))
        return extrapolated(half, full, decisions, layout, sample)

    def _run(self, op: AttentionOp, layout: Layout, decisions: Decisions) -> Cost:
        """Run the engine on all groups of `decisions`; operations and events are not counted yet."""
        if decisions.in_blocks:  # several runs
            self.memory.reset(0.5)
        values = [self.chosen(group.values, op.keys, group.index + 1) for group in decisions.groups]
        run = AttentionRun(self.machine, self.memory, op, layout, decisions, values, self.spans)
        cycles = run.run()
        units = run.units(cycles)
        busy = {name: unit.busy for name, unit in units.items()}
        active, opened = run.engine.memory_active_cycles, self.memory.open_cycles(cycles)
        return Cost(cycles, active, opened, busy, {}, self.memory.traffic(), {}, units)

    def _counted(self, cost: Cost, op: AttentionOp, decisions: Decisions) -> Cost:
        """Return `cost` with its operations and events."""
        traffic = dict(cost.traffic)
        low_rows = op.keys * sum(group.low_bit_queries > 0 for group in decisions.groups)
        events = self._events(op, decisions, low_rows, traffic)
        operations = {
            "fetcher": sum(t.bursts for t in traffic.values()),
            "qk": round(2 * events["qk_macs"]),
            "softmax": round(events["probabilities"]),
            "topk_value": round(events["value_comparisons"]),
            "pv": round(2 * events["pv_macs"]),
            "topk": round(events["comparisons"]),
        }
        return replace(cost, operations=operations, events=events)

    def estimate(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return the cost by closed forms; at "authors" the time is that of the authors' program, and the counts ours.

        Raises
        ------
        UnsupportedError: as `simulate`; at "authors", what the program cannot express.
        """
        if isinstance(op, LinearOp):
            if fidelity == "authors":
                raise UnsupportedError("the authors' program has no linear layers", where="--fidelity authors")
            return self._linear_estimated.cost(op)
        assert isinstance(op, AttentionOp)
        channels = self.memory_spec.organisation.channels
        program = program_cycles(op, self.settings, channels) if fidelity == "authors" else None
        op = op if program else executed(op, self.settings.layout)
        if program is None:
            self.machine.check_fits(op)
        decisions = Decisions.of(op, None if program else self.machine.block(op))
        if not op.keys or not decisions.groups:
            return Cost(program.total if program else self.machine.token_head_cycles(op))
        layout = self._layout(op, rows, decisions)
        closed = partial(self._closed_form, op, layout, program)
        cost = self._of_all_blocks(closed, layout, decisions, 8 * SAMPLE)  # of few, another bound may set the time
        return self._counted(cost, op, decisions)

    def _closed_form(self, op: AttentionOp, layout: Layout, program: LayerCycles | None, decisions: Decisions) -> Cost:
        values = [self.chosen(group.values, op.keys, group.index + 1) for group in decisions.groups]
        return Estimate(self.machine, self._dram, op, layout, decisions, values).cost(program)

    @cached_property
    def _dram(self) -> Dram | IdealDram:
        """The closed forms of the memory."""
        return closed_forms(self.memory_spec, self.clock_ghz, self.memory.run_ahead_bursts)

    def _layout(self, op: AttentionOp, rows: Rows | None, decisions: Decisions) -> Layout:
        if self._compact(op):
            positions, count = np.arange(op.keys, dtype=np.int64), op.keys
        else:
            positions, count = self.chosen(op.keys, op.context, 0, op.protected) if rows is None else rows, op.context
            behind = np.arange(count - op.keys + len(positions), count)  # rows read only to fill a multiple
            positions = np.concatenate([positions, behind])
        heads = max(group.heads for group in decisions.groups)
        s, write = self.settings.layout, self.settings.write
        return Layout(op, s.region_bytes, write.output_bits, positions, count, heads, s.align_bytes, s.fused_bits)

    def _events(
        self, op: AttentionOp, decisions: Decisions, low_rows: int, traffic: dict[str, Traffic]
    ) -> dict[str, float]:
        """Count what the on-chip energy is made of."""
        bits, dim, topk = self.settings.array.element_bits, op.head_dim, self.machine.topk
        queries = sum(group.queries for group in decisions.groups)
        passes = queries + sum(group.low_bit_queries for group in decisions.groups)
        fetched_values = sum(group.values for group in decisions.groups)
        local = queries * topk.comparisons(*decisions.local_select) if decisions.local_select else 0.0
        barrier = sum(topk.comparisons(*select) for select in (op.token_select, op.head_select) if select)
        burst_bits = 8 * self.memory_spec.organisation.burst_bytes
        read = traffic.keys() - self.written_streams
        key_rows = len(decisions.groups) * op.keys + (low_rows if decisions.in_blocks else 0)
        # The width converter fills rows up to the on-chip width; the low bits are added to rows already there.
        return {
            "qk_macs": float(passes * op.keys * dim),
            "pv_macs": float(queries * op.local_values * dim),
            "probabilities": float(passes * op.keys),
            "comparisons": barrier,
            "value_comparisons": local,
            "importance_adds": float(queries * op.keys + queries * dim),
            "key_bits_written": float(dim * (key_rows * bits + low_rows * op.key_lsb_bits)),
            "key_bits_read": float(passes * op.keys * dim * bits),
            "value_bits_written": float(fetched_values * dim * bits),
            "value_bits_read": float(queries * op.local_values * dim * bits),
            "fetched_bits": float(sum(traffic[name].bursts for name in read) * burst_bits),
        }

    def _linear(self, streaming: Streaming) -> FullyConnected:
        memory = self.memory_spec
        return FullyConnected(self.machine, streaming, memory.organisation.burst_bytes, memory.units)

    @cached_property
    def _linear_simulated(self) -> FullyConnected:
        return self._linear(StreamTimer(self.memory))

    @cached_property
    def _linear_estimated(self) -> FullyConnected:
        return self._linear(StreamEstimate(self._dram))

    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of arrays, softmax, top-k, SRAM and FIFOs."""
        return self.on_chip.energy(cost)

    def areas(self) -> tuple[Area, ...]:
        """Return the area part by part."""
        return self.on_chip.areas

    def inputs(self, op: Op) -> dict[str, tuple[str, Kind, str]]:
        """Return the choices that the workload leaves open."""
        if isinstance(op, LinearOp):
            why = "pruned weights are stored and multiplied with their zeros"
            return {"pattern of weights": ("dense", "assumed", why)} if op.density < 1 else {}
        assert isinstance(op, AttentionOp)
        found: dict[str, tuple[str, Kind, str]] = {}
        why = "the workload gives only their number"
        if not self._compact(op) and op.key_ids is None and op.keys < op.context:
            found["positions of kept tokens"] = ("random, from the seed", "assumed", why)
        if any(0 < count < op.keys for count in op.values):
            found["positions of fetched V rows"] = ("random, from the seed", "assumed", why)
        if any(op.lsb_queries):
            found["order of low-bit queries"] = ("evenly spread", "assumed", why)
        return found
