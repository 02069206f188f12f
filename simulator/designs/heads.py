"""What designs have in common that read Q, K and V of a head whole and decide about keys in each op by themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from simulator.designs.decision import Rule
from simulator.engine.analytical import Dram, IdealDram, closed_forms
from simulator.engine.heads import HeadRun, HeadWork, heads_estimate
from simulator.engine.interface import Cost, Design, Fidelity, Op, Rows
from simulator.errors import UnsupportedError
from simulator.memory import Traffic
from simulator.units import Fetcher
from simulator.workload.ir import AttentionOp, Kind

__all__ = ["HeadDesign", "OpWork", "kv_groups"]


@dataclass(frozen=True, slots=True)
class OpWork:
    """One attention op as the machine sees it: its K/V heads, the events of its energy, operations by unit."""

    heads: Sequence[HeadWork]
    events: Mapping[str, float]
    operations: Mapping[str, int]


class HeadDesign(Design):
    """A design whose ops come in their dense form and go through a chain of modules, one query after the other.

    Subclasses set `modules`, the chain, and describe an op by `work`. `streams` has "output", the only one written. The
    settings have `size` (keys, head_dim: what fits), `buffers` (heads on the chip at a time) and `fetcher`.
    """

    modules: ClassVar[tuple[str, ...]]
    written_streams = frozenset(("output",))
    prunes = False
    fidelities = ("event", "analytical")

    def __init__(self, settings: Any, seed: int = 0) -> None:
        super().__init__(settings, seed)
        self.settings = settings

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """Return the pruning rule."""

    @property
    def units(self) -> int:
        """Return how many equal chains work on different heads; busy cycles are the mean over them."""
        return 1

    @abstractmethod
    def work(self, op: AttentionOp) -> OpWork:
        """Return what the modules do for `op`, after the design's decision about it."""

    def run_ahead_bursts(self, settings: Any) -> int:
        """Return the space of the data FIFOs in bursts."""
        return Fetcher(settings.fetcher).run_ahead_bursts(self.memory_spec.organisation.burst_bytes)

    def runs(self, op: Op) -> bool:
        """Return whether `op` is attention."""
        return isinstance(op, AttentionOp)

    def check(self, op: AttentionOp) -> None:
        """Raise UnsupportedError if K and V of a head do not fit on the chip, or a row not in the multipliers."""
        size = self.settings.size
        for name, needed, has in (("keys", op.keys, size.keys), ("head_dim", op.head_dim, size.head_dim)):
            if needed > has:
                what = f"{needed} keys" if name == "keys" else f"heads of {needed} elements"
                raise UnsupportedError(
                    f"layer {op.layer} has {what}; {self.settings.name} is built for {has}",
                    where=f"size.{name} = {has}",
                    expected=f"at most {has}: K and V of a head are read once and kept on the chip",
                    hint=f"--set size.{name}={needed} makes it as large",
                )

    def operations(self, op: Op) -> int:
        """Return 2 D for each score that is computed and each V row that is multiplied."""
        if not isinstance(op, AttentionOp):
            return op.operations
        made = self.decision(op)
        return 2 * op.head_dim * int(made.candidates.sum(dtype="int64") + made.values.sum(dtype="int64"))

    def inputs(self, op: Op) -> dict[str, tuple[str, Kind, str]]:
        """Return where the decisions come from."""
        if not isinstance(op, AttentionOp):
            return {}
        made = self.decision(op)
        if made.kind == "measured":
            return {"decisions": (made.rule, made.kind, "the design's rule on the model's Q, K and V")}
        pairs = max(made.candidates.size * op.keys, 1)
        shares = (made.candidates.sum() / pairs, made.values.sum() / pairs)
        said = "{:.3g} of the keys scored, {:.3g} of the V rows multiplied".format(*shares)
        return {"decisions": (said, made.kind, f"not captured: {self.fractions_source}")}

    @property
    def fractions_source(self) -> str:
        """Say where the fractions come from that stand in for a capture."""
        return "the design's file"

    def signature(self, op: Op, rows: Rows | None) -> object:
        """Return the sizes of `op`, and which op it is where its decision was captured."""
        assert isinstance(op, AttentionOp)
        own = op.place if op.place in self._decided else None
        return op.phase, op.queries, op.keys, len(op.heads), op.kv_heads, op.head_dim, own

    def simulate(self, op: Op, rows: Rows | None) -> Cost:
        """Return the cost of an attention op."""
        assert isinstance(op, AttentionOp)
        if not (op.keys and op.queries and op.heads):
            return Cost(0)
        self.check(op)
        work = self.work(op)
        run = HeadRun(self.memory, work.heads, self.modules, self.settings.buffers, self.units, self.spans)
        cycles = run.run()
        active, opened = run.engine.memory_active_cycles, self.memory.open_cycles(cycles)
        return self._cost(work, cycles, active, opened, self.memory.traffic())

    def estimate(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return the cost of an attention op by closed forms."""
        assert isinstance(op, AttentionOp)
        if not (op.keys and op.queries and op.heads):
            return Cost(0)
        self.check(op)
        work = self.work(op)
        cycles, active, found = heads_estimate(self._dram, work.heads, self.settings.buffers, self.units)
        opened = self._dram.open_cycles(cycles, active, 2 * op.kv_heads)
        return self._cost(work, cycles, active, opened, {name: found.get(name, Traffic()) for name in self.streams})

    @cached_property
    def _dram(self) -> Dram | IdealDram:
        return closed_forms(self.memory_spec, self.clock_ghz, self.memory.run_ahead_bursts)

    def _cost(self, work: OpWork, cycles: int, active: int, opened: float, traffic: dict[str, Traffic]) -> Cost:
        times = sum(head.cycles.sum(axis=1) for head in work.heads) // self.units
        busy = {"fetcher": active, **dict(zip(self.modules, map(int, times)))}
        operations = {"fetcher": sum(t.bursts for t in traffic.values()), **work.operations}
        return Cost(cycles, active, opened, busy, operations, traffic, work.events)


def kv_groups(heads: int, kv_heads: int) -> list[slice]:
    """Return the heads that share each K/V head."""
    return [slice(heads * index // kv_heads, heads * (index + 1) // kv_heads) for index in range(kv_heads)]
