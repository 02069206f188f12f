"""The result of a replayed trace: the JSON of `simulate dram --json`, and what its tables and its page read.

The JSON holds the fields of `ReplayResult` under their names. Times are ns, energies pJ, 1 GB = 1e9 bytes. A minor
version only adds fields.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from simulator.codec import decode, encode, json_schema
from simulator.errors import CorruptFileError
from simulator.files import check_version, parse_json, read_json, write_atomic
from simulator.memory.energy import DramCounts, DramEnergy, EnergyRow, dram_energy, energy_models, energy_table
from simulator.memory.parameters import parameters_of
from simulator.memory.replay import Latency, RawReplay, RawStream
from simulator.memory.spec import MemorySpec
from simulator.workload.ir import Kind

__all__ = [
    "FORMAT",
    "SCHEMA_VERSION",
    "EnergyPart",
    "ReplayChannel",
    "ReplayResult",
    "ReplayStream",
    "ReplayTimeline",
    "choose_model",
    "constants_of",
    "make_result",
    "replay_schema",
]

FORMAT = "sparsecore-dram-replay"
SCHEMA_VERSION = "1.0"
_SUMMED = ("requests", "requested_bytes", "useful_bytes", "absorbed", "activates", "row_hits")


@dataclass(frozen=True, slots=True)
class ReplayStream:
    """One stream of a trace: a label, or "read" and "write"; the fields mean what they mean in `ReplayResult`."""

    requests: int
    bursts: int
    absorbed: int
    requested_bytes: int
    useful_bytes: int
    fetched_bytes: int
    bus_fraction: float
    useful_fraction: float
    gb_per_s: float
    share_of_peak: float
    activates: int
    row_hit_rate: float
    read_latency_ns: float
    read_latency_p50_ns: float
    read_latency_p99_ns: float
    read_latency_max_ns: float


@dataclass(frozen=True, slots=True)
class EnergyPart:
    """Energy of one kind of event; low and high follow from the spread of the published constants."""

    energy_pj: float
    low_pj: float
    high_pj: float
    kind: Kind
    source: str


@dataclass(frozen=True, slots=True)
class ReplayChannel:
    """One channel. Banks are in the order pseudo-channel, rank, stack id, bank group, bank."""

    bursts: int
    activates: int
    bank_bursts: tuple[int, ...]
    bank_activates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplayTimeline:
    """Sums over intervals of bin_ns each, from the start of the run."""

    bin_ns: float
    read_bytes: tuple[int, ...]
    write_bytes: tuple[int, ...]
    row_hits: tuple[int, ...]
    bursts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a memory makes of a trace.

    Parameters
    ----------
    trace: its file name. memory, description: those of the memory file. parameters: all its values, after --set.
    energy_model: "per-access" or "idd"; None where the memory has no energies, and then no energy is given.
    requests: lines of the trace. bursts: moved over the pins, as reads and writes. merged: equal to the burst just
    before and not sent. absorbed: served by a waiting burst of the same line. closed_form_bytes: of `fetched_bytes`,
    those of long sequential runs whose time is extrapolated.
    requested_bytes: sum of the requests. useful_bytes: different bytes among them that bursts moved, by stream,
    summed.
    fetched_bytes: bursts times burst size.
    time_ns: until the last data crossed the pins.
    bus_fraction: bursts and absorbed bursts, times burst size / time / peak. useful_fraction: useful_bytes / time /
    peak.
    gb_per_s: fetched_bytes / time, of which share_of_peak is the part of peak_gb_per_s.
    row_hit_rate: bursts that are not the first after an activation of their row, of all bursts.
    read_latency_ns: mean from the controller taking a read to the end of its data; also its median, 99th percentile,
    and maximum. 0 without reads.
    energy_pj_per_bit: energy_pj / (8 fetched_bytes).
    constants: the energy table that was used. assumptions: what the numbers rest on that is neither measured nor
    published.
    """

    trace: str
    memory: str
    description: str
    energy_model: str | None
    requests: int
    bursts: int
    reads: int
    writes: int
    absorbed: int
    merged: int
    closed_form_bytes: int
    requested_bytes: int
    useful_bytes: int
    fetched_bytes: int
    time_ns: float
    bus_fraction: float
    useful_fraction: float
    gb_per_s: float
    peak_gb_per_s: float
    share_of_peak: float
    activates: int
    precharges: int
    refreshes: int
    row_hit_rate: float
    read_latency_ns: float
    read_latency_p50_ns: float
    read_latency_p99_ns: float
    read_latency_max_ns: float
    energy_pj: float | None
    energy_pj_low: float | None
    energy_pj_high: float | None
    energy_pj_per_bit: float | None
    energy: dict[str, EnergyPart]
    streams: dict[str, ReplayStream]
    channels: tuple[ReplayChannel, ...]
    timeline: ReplayTimeline
    parameters: dict[str, str]
    constants: tuple[EnergyRow, ...]
    assumptions: tuple[str, ...]
    schema_version: str = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the result as JSON text that satisfies `replay_schema()`."""
        return json.dumps({"format": FORMAT, **encode(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "replay") -> ReplayResult:
        """Read what `to_json` wrote.

        Raises
        ------
        CorruptFileError: not JSON, or a field is missing or of the wrong type.
        FormatVersionError: written by another major version.
        """
        return _from_document(parse_json(text.encode(), where), where)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON to `path`; an interrupt keeps the old file."""
        write_atomic(path, self.to_json())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ReplayResult:
        """Read what `save` wrote; raises as `from_json`, and FileMissingError."""
        return _from_document(read_json(path), str(path))


def _from_document(document: object, where: str) -> ReplayResult:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CorruptFileError("the file is not a DRAM replay", where=where, expected=f'"format": "{FORMAT}"')
    newer = check_version(document.get("schema_version"), SCHEMA_VERSION, where)
    body = {key: value for key, value in document.items() if key != "format"}
    return decode(ReplayResult, body, where, ignore_unknown=newer)


def replay_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a replay, generated from the classes above."""
    document = json_schema(ReplayResult, "Result of one replayed DRAM trace", f"dram-replay-{SCHEMA_VERSION}.json")
    document["properties"] = {"format": {"const": FORMAT}, **document["properties"]}
    document["required"] = ["format", *document["required"], "schema_version"]
    return document


def choose_model(spec: MemorySpec, wanted: str | None) -> str | None:
    """Return the energy model to use: `wanted`, or the first that the memory has; None where it has none.

    Raises
    ------
    UnknownNameError: no such model. ConfigError: the memory has no numbers for it.
    """
    if wanted is None:
        return next(iter(energy_models(spec)), None)
    energy_table(spec, wanted)
    return wanted


def constants_of(spec: MemorySpec, model: str | None) -> tuple[EnergyRow, ...]:
    """Return the constants that an energy model spends on this memory: those of its own kind of refresh."""
    if model is None:
        return ()
    other = {"all_bank": ("bank_refreshes ",), "per_bank": ("refreshes ",)}.get(
        spec.controller.refresh, ("bank_refreshes ", "refreshes ")
    )
    return tuple(row for row in energy_table(spec, model) if not row.formula.startswith(other))


def make_result(raw: RawReplay, spec: MemorySpec, trace: str, energy_model: str | None = None) -> ReplayResult:
    """Return the counts of a replay as rates, times and energies.

    Parameters
    ----------
    raw: counts in bursts and ticks. trace: the name to show. energy_model: see `choose_model`.
    """
    model = choose_model(spec, energy_model)
    sums = {name: sum(getattr(stream, name) for stream in raw.streams) for name in _SUMMED}
    energy = _energy(raw, spec, model, sums["activates"])
    return ReplayResult(
        trace=trace,
        memory=spec.name,
        description=spec.description,
        energy_model=model,
        **_counts(raw, spec, sums),
        **_latency(raw.latency, spec),
        **_energy_totals(energy, 8 * (raw.reads + raw.writes) * spec.organisation.burst_bytes),
        energy={name: _part(item) for name, item in energy.items()},
        streams={stream.label: _stream(stream, raw, spec) for stream in raw.streams},
        channels=tuple(
            ReplayChannel(sum(item.bursts), sum(item.activates), tuple(item.bursts), tuple(item.activates))
            for item in raw.channels
        ),
        timeline=_timeline(raw, spec),
        parameters=parameters_of(spec),
        constants=constants_of(spec, model),
        assumptions=_assumptions(raw, energy, model),
    )


def _counts(raw: RawReplay, spec: MemorySpec, sums: dict[str, int]) -> dict[str, Any]:
    bursts = raw.reads + raw.writes
    return {
        "requests": sums["requests"],
        "bursts": bursts,
        "reads": raw.reads,
        "writes": raw.writes,
        "absorbed": sums["absorbed"],
        "merged": raw.merged,
        "closed_form_bytes": raw.closed_form_bytes,
        "requested_bytes": sums["requested_bytes"],
        **_moved(raw, spec, bursts, sums["useful_bytes"], sums["absorbed"]),
        "time_ns": spec.ns(raw.ticks),
        "peak_gb_per_s": spec.peak_gb_per_s,
        "activates": sums["activates"],
        "precharges": raw.precharges,
        "refreshes": raw.refreshes,
        "row_hit_rate": _ratio(sums["row_hits"], bursts),
    }


def _energy_totals(energy: dict[str, DramEnergy], bits: int) -> dict[str, Any]:
    """Return sums over the parts; None where the memory has no energies."""
    names = {"energy_pj": "energy_pj", "energy_pj_low": "low_pj", "energy_pj_high": "high_pj"}
    if not energy:
        return dict.fromkeys((*names, "energy_pj_per_bit"))
    totals = {name: sum(getattr(part, ours) for part in energy.values()) for name, ours in names.items()}
    return {**totals, "energy_pj_per_bit": _ratio(totals["energy_pj"], bits)}


def _ratio(above: float, below: float) -> float:
    """Of an empty trace every rate is 0."""
    return above / below if below else 0.0


def _moved(raw: RawReplay, spec: MemorySpec, bursts: int, useful: int, absorbed: int) -> dict[str, Any]:
    """Return the bytes that a stream, or all of them, moved, and what they make of the peak."""
    burst = spec.organisation.burst_bytes
    time, peak = spec.ns(raw.ticks), spec.peak_gb_per_s
    return {
        "useful_bytes": useful,
        "fetched_bytes": bursts * burst,
        "bus_fraction": _ratio((bursts + absorbed) * burst, time * peak),
        "useful_fraction": _ratio(useful, time * peak),
        "gb_per_s": _ratio(bursts * burst, time),
        "share_of_peak": _ratio(bursts * burst, time * peak),
    }


def _latency(latency: Latency, spec: MemorySpec) -> dict[str, Any]:
    names = {"": latency.mean, "_p50": latency.p50, "_p99": latency.p99, "_max": latency.max}
    return {f"read_latency{name}_ns": spec.ns(ticks) for name, ticks in names.items()}


def _stream(stream: RawStream, raw: RawReplay, spec: MemorySpec) -> ReplayStream:
    return ReplayStream(
        requests=stream.requests,
        bursts=stream.bursts,
        absorbed=stream.absorbed,
        requested_bytes=stream.requested_bytes,
        **_moved(raw, spec, stream.bursts, stream.useful_bytes, stream.absorbed),
        activates=stream.activates,
        row_hit_rate=_ratio(stream.row_hits, stream.bursts),
        **_latency(stream.latency, spec),
    )


def _energy(raw: RawReplay, spec: MemorySpec, model: str | None, activates: int) -> dict[str, DramEnergy]:
    if model is None:
        return {}
    per_bank = spec.controller.refresh == "per_bank"
    counts = DramCounts(
        activations=activates,
        reads=raw.reads,
        writes=raw.writes,
        time_ns=spec.ns(raw.ticks),
        active_ns=spec.ns(raw.active_ticks),
        refreshes=0 if per_bank else raw.refreshes,
        bank_refreshes=raw.refreshes if per_bank else 0,
    )
    return dram_energy(spec, counts, model)


def _part(item: DramEnergy) -> EnergyPart:
    return EnergyPart(item.energy_pj, item.low_pj, item.high_pj, item.kind, item.source)


def _timeline(raw: RawReplay, spec: MemorySpec) -> ReplayTimeline:
    line = raw.timeline
    sums = (tuple(part) for part in (line.read_bytes, line.write_bytes, line.row_hits, line.bursts))
    return ReplayTimeline(spec.ns(line.bin_ticks), *sums)


def _assumptions(raw: RawReplay, energy: dict[str, DramEnergy], model: str | None) -> tuple[str, ...]:
    """Return what the numbers rest on, in sentences."""
    made = []
    if raw.closed_form_bytes:
        made.append(f"{raw.closed_form_bytes:,} bytes of long sequential runs are extrapolated, not simulated")
    assumed = [name.replace("_", " ") for name, item in energy.items() if item.kind == "assumed"]
    if assumed:
        made.append(f"the energy of {', '.join(assumed)} uses assumed constants, see the energy table")
    if model is None:
        made.append("the memory file has no energies, so none are given")
    elif "io" not in energy:
        made.append("the currents are those of the core: the energy of the I/O drivers is not in the total")
    return tuple(made)
