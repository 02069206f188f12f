"""Energy of a DRAM from counted events: activations, bits moved, I/O, refresh and background, each with its source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from simulator.errors import ConfigError, UnknownNameError, nearest
from simulator.memory.quantities import split_quantity
from simulator.memory.sections import Idd, Supply
from simulator.memory.spec import MemorySpec
from simulator.tech import Constant, constant
from simulator.workload.ir import Kind

__all__ = [
    "MODELS",
    "DramCounts",
    "DramEnergy",
    "EnergyRow",
    "default_model",
    "dram_energy",
    "energy_models",
    "energy_table",
]

MODELS = {"per-access": "per_access", "idd": "idd"}  # name -> key of the section in a memory file


@dataclass(frozen=True, slots=True)
class DramCounts:
    """What a run did.

    Parameters
    ----------
    activations, reads, writes: commands, over all channels; a read or write moves one burst.
    time_ns: length of the run.
    active_ns: time with at least one open row, summed over the units (ranks of pseudo-channels of channels).
    refreshes, bank_refreshes: commands by unit and by bank; None: as many as the time has room for.
    """

    activations: float
    reads: float
    writes: float
    time_ns: float
    active_ns: float
    refreshes: float | None = None
    bank_refreshes: float | None = None


@dataclass(frozen=True, slots=True)
class DramEnergy:
    """One part of the DRAM's energy in pJ; `low` and `high` follow from the spread of the published constants."""

    energy_pj: float
    low_pj: float
    high_pj: float
    source: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One constant of an energy model: `formula` says how often it is spent, by the names of DramCounts."""

    part: str
    constant: str
    formula: str
    value: float
    low: float
    high: float
    unit: str
    source: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Term:
    part: str
    name: str
    event: str  # key of `_events`
    constant: Constant
    formula: str
    share: float = 1.0  # of the constant that one event spends


def energy_models(spec: MemorySpec) -> tuple[str, ...]:
    """Return the energy models that `spec` has numbers for, the one to prefer first."""
    known = (name for name, key in MODELS.items() if getattr(spec.energy, key) is not None)
    return tuple(sorted(known, key=lambda name: name != spec.energy.default))


def default_model(spec: MemorySpec) -> str:
    """Return the energy model to prefer; where `spec` has none, the one whose use says so."""
    return next(iter(energy_models(spec)), "per-access")


def dram_energy(spec: MemorySpec, counts: DramCounts, model: str = "per-access") -> dict[str, DramEnergy]:
    """Return the parts of the DRAM's energy: activation, movement, io, refresh, standby_active, standby_precharged.

    Each is the sum over its rows of `energy_table` of events x constant; io is missing in model "idd" where no current
    of the I/O supply is published.

    Raises
    ------
    UnknownNameError: no such model. ConfigError: no numbers for it, or a constant that does not exist.
    """
    events = _events(spec, counts)
    parts: dict[str, DramEnergy] = {}
    for term in _terms(spec, model):
        count, c = events[term.event] * term.share, term.constant
        new = DramEnergy(count * c.value, count * c.low, count * c.high, c.source, c.kind)
        old = parts.get(term.part)
        parts[term.part] = new if old is None else _sum(old, new)
    return parts


def energy_table(spec: MemorySpec, model: str = "per-access") -> list[EnergyRow]:
    """Return the constants that `dram_energy` uses, for printing; raises as it does."""
    return [
        EnergyRow(t.part, t.name, t.formula, c.value, c.low, c.high, c.unit, c.source, c.kind)
        for t in _terms(spec, model)
        for c in (t.constant,)
    ]


def _sum(a: DramEnergy, b: DramEnergy) -> DramEnergy:
    energies = (a.energy_pj + b.energy_pj, a.low_pj + b.low_pj, a.high_pj + b.high_pj)
    source = a.source if b.source in a.source else f"{a.source}; {b.source}"
    return DramEnergy(*energies, source, "assumed" if "assumed" in (a.kind, b.kind) else a.kind)


def _events(spec: MemorySpec, counts: DramCounts) -> dict[str, float]:
    burst_bits = 8 * spec.organisation.burst_bytes
    policy, refi = spec.controller.refresh, spec.timing_ns["refi"]
    intervals = spec.units * counts.time_ns / refi if policy != "none" else 0.0
    refreshes = intervals if policy == "all_bank" else 0.0
    bank_refreshes = intervals * spec.banks if policy == "per_bank" else 0.0
    return {
        "activations": counts.activations,
        "read_bits": counts.reads * burst_bits,
        "write_bits": counts.writes * burst_bits,
        "bits": (counts.reads + counts.writes) * burst_bits,
        "refreshes": refreshes if counts.refreshes is None else counts.refreshes,
        "bank_refreshes": bank_refreshes if counts.bank_refreshes is None else counts.bank_refreshes,
        "active_ns": counts.active_ns,  # 1 mW x 1 ns = 1 pJ
        "precharged_ns": max(spec.units * counts.time_ns - counts.active_ns, 0.0),
    }


def _terms(spec: MemorySpec, model: str) -> list[_Term]:
    if model not in MODELS:
        raise UnknownNameError(f"no energy model named {model!r}", where="--energy", hint=nearest(model, MODELS))
    known = energy_models(spec)
    if model not in known:
        raise ConfigError(
            f"the memory {spec.name} has no published numbers for the energy model {model!r}",
            where=f"memory {spec.name}, energy",
            expected="one of " + ", ".join(known) if known else "a memory with an energy section; this one has none",
            hint=f"give energy.{MODELS[model]} in a memory file of your own",
        )
    return _per_access(spec) if model == "per-access" else _from_currents(spec)


def _constant(spec: MemorySpec, text: str, unit: str) -> Constant:
    """Return the constant "table.name", or the number with its unit that stands for it."""
    quantity = split_quantity(text)
    if quantity is None:
        return constant(text, f"memory {spec.name}", unit)
    value, given = quantity
    if given != unit:
        raise ConfigError(
            f"{text!r} is not in {unit}", where=f"memory {spec.name}, energy", expected=f'as "1.5 {unit}"'
        )
    if not 0 <= value < math.inf:
        where = f"memory {spec.name}, energy"
        raise ConfigError(
            f"the energy or power {text!r} is out of range", where=where, expected="0 or more, and finite"
        )
    return Constant(value, value, value, unit, f"given in the memory file {spec.name}", "assumed")


def _per_access(spec: MemorySpec) -> list[_Term]:
    e = spec.energy.per_access
    if e is None:
        return []
    share = 1 / spec.organisation.pseudo_channels
    of = f" / {spec.organisation.pseudo_channels} pseudo-channels" if share < 1 else ""
    bank = f"bank_refreshes x e_ref{of} / {spec.banks} banks"
    closed = f"(units x time_ns - active_ns) x P_pre{of}"
    # part, name of the constant, event, where it is, unit, formula, share of the constant that one event spends
    rows: list[tuple[str, str, str, str | None, str, str, float]] = [
        ("activation", "e_act", "activations", e.activation, "pJ", "activations x e_act", 1.0),
        ("movement", "e_move", "bits", e.movement_per_bit, "pJ/bit", "bits x e_move", 1.0),
        ("io", "e_io", "bits", e.io_per_bit, "pJ/bit", "bits x e_io", 1.0),
        ("refresh", "e_ref", "refreshes", e.refresh, "pJ", f"refreshes x e_ref{of}", share),
        ("refresh", "e_ref", "bank_refreshes", e.refresh, "pJ", bank, share / spec.banks),
        ("standby_active", "P_act", "active_ns", e.active_standby, "mW", f"active_ns x P_act{of}", share),
        ("standby_precharged", "P_pre", "precharged_ns", e.precharged_standby, "mW", closed, share),
    ]
    return [
        _Term(part, name, event, _constant(spec, text, unit), formula, portion)
        for part, name, event, text, unit, formula, portion in rows
        if text is not None
    ]


def _from_currents(spec: MemorySpec) -> list[_Term]:
    """The formulas of data sheets: V x mA x ns = pJ and V x mA = mW, summed over supplies, times devices."""
    idd = spec.energy.idd
    if idd is None:
        return []
    ns = {name: spec.ns(ticks) for name, ticks in spec.timing_ticks.items()}
    core = (idd, *idd.rails)
    drivers = () if idd.io is None else (idd.io,)
    everything = (*core, *drivers)

    def add(
        part: str, event: str, formula: str, unit: str, supplies: tuple[Supply, ...], f: Callable[[Supply], float]
    ) -> None:
        value = idd.devices * sum(s.vdd * f(s) for s in supplies)
        terms.append(
            _Term(part, formula, event, _derived(spec, idd, part, value, unit, formula), f"{event} x {formula}")
        )

    terms: list[_Term] = []
    act = "VDD (IDD0 tRC - IDD3N tRAS - IDD2N tRP)"
    add(
        "activation", "activations", act, "pJ", everything,
        lambda s: s.idd0 * ns["rc"] - s.idd3n * ns["ras"] - s.idd2n * ns["rp"],
    )  # fmt: skip
    per_bit = ns["burst"] / (8 * spec.organisation.burst_bytes)
    for part, supplies in (("movement", core), ("io", drivers)):
        if supplies:
            read, write = ("VDD (IDD4R - IDD3N) tBURST / bits", "VDD (IDD4W - IDD3N) tBURST / bits")
            add(part, "read_bits", read, "pJ/bit", supplies, lambda s: (s.idd4r - s.idd3n) * per_bit)
            add(part, "write_bits", write, "pJ/bit", supplies, lambda s: (s.idd4w - s.idd3n) * per_bit)
    all_bank = "VDD (IDD5AB - IDD3N) tRFC"
    add("refresh", "refreshes", all_bank, "pJ", everything, lambda s: (s.idd5ab - s.idd3n) * ns["rfc"])
    if idd.idd5pb is None:
        one, share = f"{all_bank} / banks", ns["rfc"] / spec.banks
        add("refresh", "bank_refreshes", one, "pJ", everything, lambda s: (s.idd5ab - s.idd3n) * share)
    else:
        one = "VDD (IDD5PB - IDD3N) tRFCpb"
        add("refresh", "bank_refreshes", one, "pJ", core, lambda s: ((s.idd5pb or s.idd3n) - s.idd3n) * ns["rfc_bank"])
    add("standby_active", "active_ns", "VDD IDD3N", "mW", everything, lambda s: s.idd3n)
    add("standby_precharged", "precharged_ns", "VDD IDD2N", "mW", everything, lambda s: s.idd2n)
    return terms


def _derived(spec: MemorySpec, idd: Idd, part: str, value: float, unit: str, formula: str) -> Constant:
    """Return `value` with the interval of other published constants for the same part, if the file names them."""
    if value < 0:
        where = f"memory {spec.name}, energy.idd"
        raise ConfigError(
            f"the currents contradict each other: {formula} is {value:g} {unit}", where=where, expected="0 or more"
        )
    c = Constant(value, value, value, unit, f"{formula}, {idd.source}", "published")
    key = {"movement": "movement_per_bit", "io": "io_per_bit"}.get(part, part)
    reference = getattr(idd.published, key, None)
    if reference is None or formula.endswith("banks") or "IDD5PB" in formula:
        return c
    other = _constant(spec, reference, unit)
    share = 1 / spec.organisation.pseudo_channels if part == "refresh" else 1.0  # published by channel
    low, high = min(value, other.low * share), max(value, other.high * share)
    return replace(c, low=low, high=high, source=f"{c.source}; interval: {other.source}")
