"""From the costs of single ops to a result: every op is the design's, the host's, or listed as not modelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from simulator.engine.host import Host
from simulator.engine.interface import Cost, Design, Energy, Op, Rows, UnitCycles
from simulator.memory import MemorySpec, Traffic
from simulator.result import EnergyItem, LayerResult, ScopeResult, StreamResult, UnitResult, UnmodelledItem
from simulator.workload.decisions import OF_THE_RUN
from simulator.workload.ir import AttentionOp, Kind, LinearOp, OtherOp, Workload

__all__ = ["SCOPES", "Ledger", "Observer", "bottleneck"]

Scope = Literal["attention", "linear", "other"]
SCOPES: tuple[Scope, ...] = ("attention", "linear", "other")


@dataclass(slots=True)
class _Group:
    """Sums over the ops of one layer or one scope."""

    cycles: int = 0
    seconds: float = 0.0
    estimated: float = 0.0  # seconds by closed form, where the design has one
    operations: int = 0
    useful_bytes: int = 0
    fetched_bytes: int = 0
    energy_pj: float | None = None  # where the design knows it
    count: int = 0
    left_out: int = 0
    on_host: int = 0
    tokens: int = 0
    heads: int = 0
    continued: int = 0
    context: int = 0
    busy: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Unit:
    cycles: UnitCycles = field(default_factory=UnitCycles)
    operations: int = 0
    energy_pj: float = 0.0


class Observer(Protocol):
    """Is told about every op that the design runs."""

    def before(self, op: Op) -> None:
        """Called before `op` is simulated."""

    def after(self, op: Op, rows: Rows | None, start: int, cost: Cost) -> None:
        """Called with what `op`, which started at cycle `start`, cost."""


@dataclass(slots=True)
class Ledger:
    """Everything that a run of one design on one workload adds up.

    Parameters
    ----------
    workload: as given. design: what runs it. host: what runs the rest, or None. observers: of the ops on the design.
    """

    workload: Workload
    design: Design
    host: Host | None = None
    observers: tuple[Observer, ...] = ()
    cycles: int = 0
    energies: dict[str, Energy] = field(default_factory=dict)
    open_choices: dict[str, tuple[str, Kind, str]] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    _layers: dict[tuple[str, int | None], _Group] = field(default_factory=lambda: defaultdict(_Group))
    _units: dict[str, _Unit] = field(default_factory=lambda: defaultdict(_Unit))
    _traffic: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    _latencies: dict[str, Any] = field(default_factory=dict)  # _sim.LatencyHistogram
    _left_out: dict[str, list[Op]] = field(default_factory=lambda: defaultdict(list))
    _scope_pj: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    _scopes_of: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    executed: Workload = field(init=False)  # as the design runs it: dense where it does not prune

    def __post_init__(self) -> None:
        self.executed = self.workload if self.design.prunes else self.workload.dense()
        self.design.begin(self.executed)

    def run(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Account every op; `progress` is called with ops done and ops in all."""
        workload = self.executed
        if self.design.fidelity != "authors":  # its program has no buffers
            for largest in sorted(workload.attention, key=lambda op: -op.keys * op.head_dim):
                self.design.check(largest)  # so that the size an error names is enough for all
        total = len(workload.attention) + len(workload.linear) + len(workload.other)
        for done, (scope, op) in enumerate(_ops(workload)):
            op = op if self.design.prunes else self.design.dense(op)
            group = self._layers[scope, op.layer]
            group.count += 1
            group.operations += self.design.operations(op) if self.design.runs(op) else op.operations
            self._describe(group, op)
            if self.design.runs(op):
                self._on_design(scope, group, op, workload)
            elif self.host is not None:
                group.on_host += 1
                seconds = self.host.seconds(op.operations, op.bytes)
                group.seconds, group.estimated = group.seconds + seconds, group.estimated + seconds
            else:
                group.left_out += 1
                self._left_out[_name(op)].append(op)
            if progress is not None:
                progress(done + 1, total)

    @staticmethod
    def _describe(group: _Group, op: Op) -> None:
        if isinstance(op, AttentionOp):
            group.tokens, group.heads = group.tokens + op.keys, group.heads + len(op.heads)
            group.continued += op.continues
            group.context += op.context
        else:
            group.tokens += op.tokens

    def _on_design(self, scope: str, group: _Group, op: Op, workload: Workload) -> None:
        rows = None
        if isinstance(op, AttentionOp) and op.key_ids is not None:
            rows = workload.arrays[op.key_ids].astype("int64")
        for observer in self.observers:
            observer.before(op)
        cost = self.design.cost(op, rows, self.cycles)
        for observer in self.observers:
            observer.after(op, rows, self.cycles, cost)
        if "analytical" in self.design.fidelities:
            group.estimated += self.design.seconds(self.design.estimated(op, rows, "analytical").cycles)
        self.cycles += cost.cycles
        self.open_choices.update(self.design.inputs(op))
        self.remarks.update(dict.fromkeys(self.design.remarks(op)))
        group.cycles += cost.cycles
        group.seconds += self.design.seconds(cost.cycles)
        group.useful_bytes += sum(t.useful_bytes for t in cost.traffic.values())
        group.fetched_bytes += sum(t.bursts for t in cost.traffic.values()) * self._burst_bytes
        energies = self.design.energy(cost)
        if energies:
            group.energy_pj = (group.energy_pj or 0.0) + sum(energy.pj for energy in energies.values())
        for name, unit in cost.unit_cycles().items():
            group.busy[name] = group.busy.get(name, 0) + unit.busy
        self._add(scope, cost, energies)

    def _add(self, scope: str, cost: Cost, energies: dict[str, Energy]) -> None:
        for name, energy in energies.items():
            self.energies[name] = self.energies[name] + energy if name in self.energies else energy
            self._scope_pj[name][scope] += energy.pj
        for name, traffic in cost.traffic.items():
            self._traffic[name] += traffic
            if traffic.bursts:
                self._scopes_of[name][scope] = None
        for name, latency in cost.latencies.items():
            self._latencies.setdefault(name, type(latency)()).merge(latency)
        for name, cycles in cost.unit_cycles().items():
            unit = self._units[name]
            unit.cycles += cycles
            unit.operations += cost.operations.get(name, 0)
            unit.energy_pj += self.design.unit_energy_pj(name, energies)

    @property
    def _burst_bytes(self) -> int:
        return self.design.memory_spec.organisation.burst_bytes

    # What a result is made of.

    def layers(self) -> tuple[LayerResult, ...]:
        """Return one entry per scope and layer, in the order of the workload."""
        return tuple(self._layer(scope, layer, group) for (scope, layer), group in self._layers.items())

    @staticmethod
    def _layer(scope: str, layer: int | None, g: _Group) -> LayerResult:
        whole, own = not g.left_out, not g.left_out and not g.on_host
        attention = scope == "attention"
        return LayerResult(
            layer=layer,
            scope=scope,
            cycles=g.cycles if own else None,
            time_s=g.seconds if whole else None,
            tokens_mean=g.tokens / g.count,
            heads_mean=g.heads / (g.count - g.continued) if attention else None,
            context_mean=g.context / g.count if attention else None,
            operations=g.operations,
            dram_useful_bytes=g.useful_bytes,
            dram_fetched_bytes=g.fetched_bytes,
            energy_pj=g.energy_pj if own else None,
            bottleneck=bottleneck(g.busy) if own else None,
        )

    def scopes(self) -> dict[str, ScopeResult]:
        """Return the scopes; "total" only if every op has a time."""
        executed, dense = self.executed, self.workload.dense()
        operations, size = max(executed.operations(), 1), max(executed.bytes(), 1)
        result: dict[str, ScopeResult] = {}
        for scope in SCOPES:
            groups = [group for (name, _), group in self._layers.items() if name == scope]
            work = sum(g.operations for g in groups)
            share = (executed.operations(scope) / operations, executed.bytes(scope) / size)
            result[scope] = self._with_estimate(self._scope(groups, work, dense.operations(scope), share), groups)
        if not any(g.left_out for g in self._layers.values()):
            groups = list(self._layers.values())
            total = self._scope(groups, sum(g.operations for g in groups), dense.operations(), (1.0, 1.0))
            result["total"] = self._with_estimate(total, groups)
        return result

    def _with_estimate(self, scope: ScopeResult, groups: list[_Group]) -> ScopeResult:
        """Return `scope` with the time of the analytical model, where the design has one."""
        if scope.time_s is None or "analytical" not in self.design.fidelities:
            return scope
        return replace(scope, analytical_s=sum(group.estimated for group in groups))

    @staticmethod
    def _scope(groups: list[_Group], operations: int, dense: int, share: tuple[float, float]) -> ScopeResult:
        count, left_out = sum(g.count for g in groups), sum(g.left_out for g in groups)
        host = sum(g.on_host for g in groups)
        own = count > 0 and not left_out and not host
        modelled = count > 0 and not left_out
        energies = [g.energy_pj for g in groups if g.energy_pj is not None]
        return ScopeResult(
            modelled_by="none" if not count else "not modelled" if left_out else "host" if host else "design",
            cycles=sum(g.cycles for g in groups) if own else None,
            time_s=sum(g.seconds for g in groups) if modelled else None,
            operations=operations,
            operations_dense=dense,
            dram_useful_bytes=sum(g.useful_bytes for g in groups),
            dram_fetched_bytes=sum(g.fetched_bytes for g in groups),
            energy_pj=sum(energies) if own and energies else None,
            operations_share=share[0],
            bytes_share=share[1],
        )

    def units(self) -> dict[str, UnitResult]:
        """Return the units with their share of the design's cycles; a unit that an op does not use is idle in it."""
        total = max(self.cycles, 1)
        result = {}
        for name, unit in self._units.items():
            c = unit.cycles
            idle = c.idle + self.cycles - c.total
            result[name] = UnitResult(
                c.busy, c.busy / total, unit.operations, unit.energy_pj, c.starved, c.blocked, idle
            )
        return result

    def streams(self) -> dict[str, StreamResult]:
        """Return the DRAM traffic by stream; rates are over all cycles of the design."""
        seconds, peak = self.design.seconds(self.cycles), self.design.memory_spec.peak_gb_per_s
        result = {}
        for name, t in self._traffic.items():
            fetched = t.bursts * self._burst_bytes
            rate = fetched / seconds / 1e9 if seconds else 0.0
            hits = t.row_hits / t.bursts if t.bursts else None
            writes, scopes = name in self.design.written_streams, tuple(self._scopes_of[name])
            counts = (t.useful_bytes, fetched, t.bursts, t.activations, hits, rate, rate / peak, writes, scopes)
            result[name] = StreamResult(*counts, *self._latency_ns(name))
        return result

    def _latency_ns(self, stream: str) -> tuple[float | None, ...]:
        """Return mean, median, 99th percentile and maximum of a stream's read latencies."""
        spec, latency = self.design.memory_spec, self._latencies.get(stream)
        if latency is None or not latency.count or not isinstance(spec, MemorySpec):
            return (None,) * 4
        return tuple(spec.ns(v) for v in (latency.mean, latency.quantile(0.5), latency.quantile(0.99), latency.max))

    def output_error(self) -> tuple[float | None, str]:
        """Return the root mean square of the decisions' errors, one an op, and how it is known (see `Result`)."""
        design, ops = self.design, {op.place for op in self.executed.attention}
        if design.rule is None and not design.prunes:
            return None, "dense"
        made = self.workload.decided(design.rule.name if design.rule is not None else OF_THE_RUN)
        found = [error for place in ops if place in made and (error := made[place].output_error) is not None]
        if not found:
            return None, "not captured"
        error = (sum(error * error for error in found) / len(found)) ** 0.5
        return error, "measured" if len(found) == len(ops) else f"measured on {len(found)} of {len(ops)} ops"

    def energy_items(self) -> dict[str, EnergyItem]:
        """Return the energy by component."""
        return {
            name: EnergyItem(e.pj, e.group, e.source, e.kind, e.low_pj, e.high_pj, dict(self._scope_pj[name]))
            for name, e in self.energies.items()
        }

    def not_modelled(self) -> tuple[UnmodelledItem, ...]:
        """Return what neither the design nor a host ran, by name of the op, the largest first."""
        executed = self.executed
        operations, size = max(executed.operations(), 1), max(executed.bytes(), 1)
        items = []
        for name, ops in self._left_out.items():
            work, moved = sum(op.operations for op in ops), sum(op.bytes for op in ops)
            items.append(
                UnmodelledItem(
                    name=name,
                    reason=f"{type(self.design).__name__} does not run it and no host was given",
                    count=len(ops),
                    operations=work,
                    bytes=moved,
                    operations_share=work / operations,
                    bytes_share=moved / size,
                )
            )
        return tuple(sorted(items, key=lambda item: (-item.operations, item.name)))


def bottleneck(busy: Mapping[str, int]) -> str | None:
    """Return the unit with the most busy cycles, the first of equal ones; the fetcher's are those of the DRAM.

    The writer is not a unit of its own here: what it does is the DRAM's work.
    """
    names = [name for name, cycles in busy.items() if cycles and name != "writer"]
    most = max(names, key=lambda name: busy[name], default=None)
    return "dram" if most == "fetcher" else most


def _ops(workload: Workload) -> Iterator[tuple[str, Op]]:
    scopes: tuple[tuple[str, Iterable[Op]], ...] = (
        ("attention", workload.attention),
        ("linear", workload.linear),
        ("other", workload.other),
    )
    for scope, ops in scopes:
        for op in ops:
            yield scope, op


def _name(op: Op) -> str:
    """Return the op's name without the layer's number, so that equal ops of all layers make one entry."""
    if isinstance(op, (LinearOp, OtherOp)):
        parts = [part for part in op.name.split(".") if not part.isdigit()]
        return ".".join(parts)
    return "attention"
