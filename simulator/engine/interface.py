"""What a design implements: which ops it runs, and what each of them costs on it.

A design is a class with a settings model and a YAML file per variant. It is found by the entry point group
`simulator.designs` (name -> class), so that a package can add one with no edit here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from simulator.engine.event import Span
from simulator.engine.resources import BANDWIDTH, Resource
from simulator.errors import ConfigError, UnsupportedError
from simulator.memory import DramCounts, Memory, MemorySpec, Traffic, default_model, dram_energy, load_memory
from simulator.memory.ideal import IDEAL, IdealMemory, IdealSpec
from simulator.settings import Settings
from simulator.tech import GIVEN, Area, Technology, TechnologySettings
from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp, Kind, LinearOp, OtherOp, Workload
from simulator.workload.ops import Place

if TYPE_CHECKING:
    from simulator.designs.decision import Rule

__all__ = [
    "FIDELITIES",
    "Cost",
    "Design",
    "DesignSettings",
    "DramSettings",
    "Energy",
    "Fidelity",
    "Op",
    "Rows",
    "UnitCycles",
    "row_bytes",
]

Fidelity = Literal["analytical", "event", "authors"]
FIDELITIES: tuple[Fidelity, ...] = ("analytical", "event", "authors")
Op = AttentionOp | LinearOp | OtherOp
Rows = npt.NDArray[np.int64]
REFRESH_PHASES = 4


class DramSettings(Settings):
    """The memory of a design: a shipped standard or a YAML file, and how many of its channels; or "ideal".

    The ideal memory has no channels; its own two numbers are refused with any other.
    """

    standard: str
    channels: int | None = Field(None, ge=1, description="None: as in the standard")
    ideal_latency: int | None = Field(None, ge=0, description="cycles before the first data; None: 100")
    ideal_bytes_per_cycle: int | None = Field(None, ge=1, description="None: 512")

    @model_validator(mode="after")
    def _ideal_numbers_have_an_effect(self) -> DramSettings:
        given = self.ideal_latency is not None or self.ideal_bytes_per_cycle is not None
        if given and self.standard != IDEAL:
            raise ValueError(f"ideal_latency and ideal_bytes_per_cycle have no effect on the memory {self.standard!r}")
        return self

    def ideal(self, clock_ghz: float) -> IdealSpec:
        """Return the ideal memory of these settings."""
        latency = 100 if self.ideal_latency is None else self.ideal_latency
        return IdealSpec(latency, self.ideal_bytes_per_cycle or 512, clock_ghz)

    @field_validator("channels")
    @classmethod
    def _whole_address_bits(cls, channels: int | None) -> int | None:
        if channels is not None and channels & (channels - 1):
            raise ValueError("the number of channels should be a power of two")
        return channels


class DesignSettings(Settings):
    """What every design's YAML file has."""

    name: str
    description: str
    clock_ghz: float = Field(ge=1e-3, le=1e3)
    technology: TechnologySettings = TechnologySettings(node_nm=None, vdd=None)
    dram: DramSettings


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one component in pJ, its group, and where the energy per event comes from."""

    pj: float
    group: Literal["dram", "sram", "logic"]
    source: str
    kind: Kind
    low_pj: float
    high_pj: float

    @staticmethod
    def plain(pj: float, group: Literal["dram", "sram", "logic"], source: str, kind: Kind = "published") -> Energy:
        """Return an energy whose constant has one published value."""
        return Energy(pj, group, source, kind, pj, pj)

    def assumed(self) -> Energy:
        """Return the same with the kind of a constant that the user gave."""
        return replace(self, kind="assumed")

    def __add__(self, other: Energy) -> Energy:
        pj, low, high = self.pj + other.pj, self.low_pj + other.low_pj, self.high_pj + other.high_pj
        return Energy(pj, self.group, self.source, self.kind, low, high)


@dataclass(frozen=True, slots=True)
class UnitCycles:
    """What a unit did in the cycles of an op; the four add up to them.

    Parameters
    ----------
    busy: it worked. starved: it waited for something to work on. blocked: what it had done could not be handed over, or
        it was not allowed to go on. idle: it had nothing left to do, or never had.
    """

    busy: int = 0
    starved: int = 0
    blocked: int = 0
    idle: int = 0

    @property
    def total(self) -> int:
        """All cycles."""
        return self.busy + self.starved + self.blocked + self.idle

    def __add__(self, other: UnitCycles) -> UnitCycles:
        return UnitCycles(
            self.busy + other.busy, self.starved + other.starved, self.blocked + other.blocked, self.idle + other.idle
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What one op cost: cycles, busy cycles and operations by unit, traffic by stream, and counted events.

    `units` says for each unit what it did in those cycles; a cost without it has only busy cycles, and the others are
    taken as starved (`unit_cycles`).

    `events` are what the design's energy is computed from; `dram_active_cycles` those with requests under way,
    `dram_open_cycles` those with an open row, summed over the ranks of all (pseudo-)channels. `latencies` are those of
    each stream's reads, _sim.LatencyHistogram in ticks of the memory; none where it was not simulated burst by burst.
    """

    cycles: int
    dram_active_cycles: int = 0
    dram_open_cycles: float = 0.0
    busy_cycles: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    events: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, UnitCycles] = field(default_factory=dict)
    latencies: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def unit_cycles(self) -> dict[str, UnitCycles]:
        """Return what every unit did; busy units that `units` does not know waited for the rest of the time."""
        rest = {name: UnitCycles(busy, self.cycles - busy) for name, busy in self.busy_cycles.items()}
        return rest | dict(self.units)


class Design(ABC):
    """One accelerator. Subclasses set the class variables (`folder`: of their YAML files) and implement the rest.

    Parameters
    ----------
    settings: validated parameters. seed: of every random choice in a run.

    Raises
    ------
    ConfigError, UnknownNameError: a memory or a constant that does not exist.
    """

    settings_model: ClassVar[type[DesignSettings]]
    folder: ClassVar[Path]
    streams: ClassVar[tuple[str, ...]]
    written_streams: ClassVar[frozenset[str]]
    energy_units: ClassVar[dict[str, tuple[str, ...]]]  # components of the energy by the unit that spends them
    prunes: ClassVar[bool] = True  # False: ops come in their dense form
    area_note: ClassVar[str] = ""  # what `areas` leaves out
    fidelities: ClassVar[tuple[Fidelity, ...]] = ("event",)  # those that it has; `estimate` serves the other ones
    resources: ClassVar[Mapping[str, Resource]] = {}  # multipliers, sram_bytes: the settings that say how much of it

    def __init__(self, settings: Any, seed: int = 0) -> None:
        self.seed = seed
        self.fidelity: Fidelity = "event"
        self.clock_ghz: float = settings.clock_ghz
        self.technology = Technology(settings.technology)
        self.memory_spec: MemorySpec | IdealSpec
        self.memory: Memory | IdealMemory
        if settings.dram.standard == IDEAL:
            self.memory_spec = ideal = settings.dram.ideal(self.clock_ghz)
            self.memory = IdealMemory(ideal, self.streams, self.run_ahead_bursts(settings))
        else:
            self.memory_spec = spec = load_memory(settings.dram.standard, settings.dram.channels)
            self.memory = Memory(spec, self.clock_ghz, self.streams, self.run_ahead_bursts(settings))
        self.memory_name: str = settings.dram.standard
        self.amounts: dict[str, float] = {BANDWIDTH: self.memory_spec.peak_gb_per_s}
        self.amounts |= {name: resource.amount(settings) for name, resource in self.resources.items()}
        self.spans: list[Span] | None = None  # if set, gets what the units do when, and every op is simulated again
        self._known: dict[object, Cost] = {}
        self._decided: dict[Place, Decision] = {}

    @abstractmethod
    def run_ahead_bursts(self, settings: Any) -> int:
        """Return how many bursts may be under way (the space of the fetcher's data FIFOs)."""

    @abstractmethod
    def runs(self, op: Op) -> bool:
        """Whether the design runs `op`; everything else is left to the host or listed as not modelled."""

    @abstractmethod
    def signature(self, op: Op, rows: Rows | None) -> object:
        """Return a hashable value that is equal for ops with equal cost."""

    @abstractmethod
    def simulate(self, op: Op, rows: Rows | None) -> Cost:
        """Return the cost of `op`, with the memory reset; `rows` are the kept positions, None where nobody knows them.

        Raises
        ------
        UnsupportedError: the op does not fit the design (the size that it needs is named).
        """

    def check(self, op: AttentionOp) -> None:  # noqa: B027  (a design without limits need not have it)
        """Raise UnsupportedError, with the size needed, if `op` does not fit; asked for the largest ops first."""

    @abstractmethod
    def on_chip_energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of everything but the DRAM, by component."""

    def areas(self) -> tuple[Area, ...]:
        """Return the parts of the design with their areas; none where nothing is known about them."""
        return ()

    def dense(self, op: Op) -> Op:
        """Return `op` as a design that does not prune has to run it; called only where `prunes` is False."""
        return op

    @property
    def rule(self) -> Rule | None:
        """Return the pruning rule that looks at Q, K and V; None where there is none, or the ops hold its decisions."""
        return None

    def begin(self, workload: Workload) -> None:
        """Take the decisions that `workload` has of the design's rule; called before its ops."""
        self._decided = workload.decided(self.rule.name) if self.rule is not None else {}

    def decision(self, op: AttentionOp) -> Decision:
        """Return what the rule decided for `op`, in its dense form; published fractions where nothing was captured."""
        return self._decided.get(op.place) or self.fractions(op)

    def fractions(self, op: AttentionOp) -> Decision:
        """Return a decision from published fractions, of the kind "published" or "assumed"."""
        raise UnsupportedError(
            f"{type(self).__name__} has no published fractions and no decision for layer {op.layer}",
            hint="capture the model with this design: simulate capture --arch",
        )

    def operations(self, op: Op) -> int:
        """Return the operations that the design executes for `op`; its own decisions may leave out some."""
        return op.operations

    @property
    def peak_gops(self) -> float | None:
        """Return the peak of the multiplier arrays in 1e9 operations (2 per multiply-add) per second; None: no roof."""
        return None

    def inputs(self, op: Op) -> dict[str, tuple[str, Kind, str]]:
        """Return what the design assumed for `op` beyond the workload: name -> (value, kind, source)."""
        return {}

    def remarks(self, op: Op) -> tuple[str, ...]:
        """Return what a reader of the result should know about how `op` is run, in sentences; equal ones print once."""
        return ()

    def cost(self, op: Op, rows: Rows | None, cycle: int) -> Cost:
        """Return the cost of `op` started at `cycle`; equal ops are simulated once.

        An op starts with all rows of the DRAM closed. Where it falls between two refreshes follows from `cycle`,
        rounded to a quarter of tREFI, so that at most four runs of equal ops differ. At other fidelities than "event"
        neither matters: see `estimated`.
        """
        if self.fidelity != "event":
            return self.estimated(op, rows, self.fidelity)
        refi = self.memory_spec.timing_ns["refi"]
        phase = int(cycle / self.clock_ghz % refi / refi * REFRESH_PHASES) if refi else 0
        key = (self.signature(op, rows), phase)
        watched = self.spans is not None or self.memory.recorder is not None
        if watched or key not in self._known:
            self.memory.reset((phase + 0.5) / REFRESH_PHASES)
            self._known[key] = self._with_latencies(self.simulate(op, rows))
        return self._known[key]

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Leave what is simulated inside out of traces."""
        spans, self.spans = self.spans, None
        recorder, self.memory.recorder = self.memory.recorder, None
        try:
            yield
        finally:
            self.spans, self.memory.recorder = spans, recorder

    def _with_latencies(self, cost: Cost) -> Cost:
        if isinstance(self.memory, Memory) and cost.traffic and self.memory.traffic() == dict(cost.traffic):
            return replace(cost, latencies=self.memory.latencies())
        return cost

    def use(self, fidelity: Fidelity) -> None:
        """Make `cost` answer at `fidelity`.

        Raises
        ------
        UnsupportedError: the design does not have it.
        """
        if fidelity not in self.fidelities:
            raise UnsupportedError(
                f"{type(self).__name__} has no {fidelity} model",
                where=f"--fidelity {fidelity}",
                expected=" or ".join(self.fidelities),
            )
        self.fidelity = fidelity

    def share_costs(self, other: Design) -> None:
        """Take the costs that `other` found, whose timing is the same: another node or supply changes energies only."""
        self._known = other._known

    def estimate(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return the cost of `op` by a closed form; called only with the design's `fidelities`, but not with "event".

        Raises
        ------
        UnsupportedError: the op does not fit the design, or the formula cannot express it.
        """
        raise UnsupportedError(f"{type(self).__name__} has no {fidelity} model", where=f"--fidelity {fidelity}")

    def estimated(self, op: Op, rows: Rows | None, fidelity: Fidelity) -> Cost:
        """Return `estimate`, once for equal ops."""
        key = (fidelity, self.signature(op, rows))
        if key not in self._known:
            self._known[key] = self.estimate(op, rows, fidelity)
        return self._known[key]

    def unit_energy_pj(self, unit: str, energies: Mapping[str, Energy]) -> float:
        """Return the part of an op's energy that a unit spent (see `energy_units`)."""
        return sum(energies[name].pj for name in self.energy_units.get(unit, ()) if name in energies)

    def energy(self, cost: Cost) -> dict[str, Energy]:
        """Return the energy of an op by component: the DRAM's parts and the design's own."""
        found = self._dram_energy(cost) | self.on_chip_energy(cost)
        return {name: energy.assumed() if GIVEN in energy.source else energy for name, energy in found.items()}

    def _dram_energy(self, cost: Cost) -> dict[str, Energy]:
        if isinstance(self.memory_spec, IdealSpec):  # nothing is known about its energy
            return {}
        writes = sum(t.bursts for name, t in cost.traffic.items() if name in self.written_streams)
        counts = DramCounts(
            activations=sum(t.activations for t in cost.traffic.values()),
            reads=sum(t.bursts for t in cost.traffic.values()) - writes,
            writes=writes,
            time_ns=cost.cycles / self.clock_ghz,
            active_ns=cost.dram_open_cycles / self.clock_ghz,
        )
        dram = {
            f"dram.{name}": Energy(part.energy_pj, "dram", part.source, part.kind, part.low_pj, part.high_pj)
            for name, part in dram_energy(self.memory_spec, counts, default_model(self.memory_spec)).items()
        }
        return self._with_accesses(dram, counts)

    def _with_accesses(self, dram: dict[str, Energy], counts: DramCounts) -> dict[str, Energy]:
        """Return the same with the energies of a whole burst that the user gives, instead of what it consists of."""
        read, write = (self.technology.given(f"dram.{name}", "pJ") for name in ("read", "write"))
        if read is None and write is None:
            return dram
        if read is None or write is None:
            raise ConfigError(
                "dram.read and dram.write are given together or not at all",
                where="technology.constants",
                hint="map the action that is there to both",
            )
        pj = counts.reads * read.value + counts.writes * write.value
        source = "; ".join(dict.fromkeys((read.source, write.source)))
        kept = {name: e for name, e in dram.items() if name not in ("dram.activation", "dram.movement", "dram.io")}
        return {"dram.access": Energy.plain(pj, "dram", source)} | kept

    def seconds(self, cycles: float) -> float:
        """Convert cycles of the design's clock."""
        return cycles / (self.clock_ghz * 1e9)

    def chosen(self, count: int, of: int, salt: int = 0, protected: int = 0) -> Rows:
        """Return `count` of `of` positions, ascending: all, or a random set that depends on the seed alone.

        The first `protected` positions are always among them.
        """
        if count >= of:
            return np.arange(of, dtype=np.int64)
        generator = np.random.default_rng((self.seed, count, of, salt))
        others = generator.choice(of - protected, size=count - protected, replace=False) + protected
        return np.concatenate([np.arange(protected), np.sort(others)]).astype(np.int64)


def row_bytes(elements: int, bits: int) -> int:
    """Return the bytes of a row in DRAM: rows start at whole bytes."""
    return math.ceil(elements * bits / 8)
