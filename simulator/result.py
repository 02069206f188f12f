"""The result of a simulation: the published JSON schema, and what every report reads.

The JSON is the same object: `Result.to_json` writes these fields under their names. Energies are picojoules, times are
seconds, cycles are those of the design's clock. A minor version only adds fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from simulator.codec import decode, encode, json_schema
from simulator.errors import CorruptFileError
from simulator.files import check_version, parse_json, read_bytes, read_json, write_atomic
from simulator.timeline import Timeline, TimelineSpan
from simulator.workload.ir import Kind, ModelInfo

__all__ = [
    "FORMAT",
    "SCHEMA_VERSION",
    "AreaItem",
    "EnergyItem",
    "InputField",
    "LayerResult",
    "Result",
    "RuleResult",
    "ScopeResult",
    "StreamResult",
    "TechnologyPoint",
    "TechnologyResult",
    "Timeline",
    "TimelineSpan",
    "UnitResult",
    "UnmodelledItem",
    "dump_results",
    "load_results",
    "published_schema",
    "schema",
]

FORMAT = "sparsecore-result"
SCHEMA_VERSION = "1.2"

ModelledBy = Literal["design", "host", "not modelled", "none"]


@dataclass(frozen=True, slots=True)
class ScopeResult:
    """One scope of the workload (attention, linear, other, total) and what it costs.

    Parameters
    ----------
    modelled_by: "design", "host" (a time but no cycles), "not modelled" (counts only), "none" (no such op).
    cycles, time_s, energy_pj: None where they are not modelled.
    operations: executed, 2 per multiply-add. operations_dense: the same with cascade pruning off.
    dram_useful_bytes, dram_fetched_bytes: asked for by the units, and moved in whole bursts.
    operations_share, bytes_share: this scope's part of the workload's operations and of its compulsory bytes.
    analytical_s: the time by closed forms, whatever the result's fidelity; None where the design has none.
    """

    modelled_by: ModelledBy
    cycles: int | None
    time_s: float | None
    operations: int
    operations_dense: int
    dram_useful_bytes: int
    dram_fetched_bytes: int
    energy_pj: float | None
    operations_share: float
    bytes_share: float
    analytical_s: float | None = None


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer in one scope, over all sequences, phases and steps; the means are over its ops, weighted equally.

    bottleneck: the unit that was busy for most of its cycles; None where the design did not run it.
    """

    layer: int | None
    scope: str
    cycles: int | None
    time_s: float | None
    tokens_mean: float | None
    heads_mean: float | None
    context_mean: float | None
    operations: int
    dram_useful_bytes: int
    dram_fetched_bytes: int
    energy_pj: float | None
    bottleneck: str | None = None


@dataclass(frozen=True, slots=True)
class UnitResult:
    """One unit of the design: cycles in which it did work, and their share of the design's cycles.

    starved_cycles (it waited for work), blocked_cycles (it could not hand over, or was held back) and idle_cycles (it
    had nothing left to do) are the rest of the design's cycles; None where the fidelity does not tell them.
    """

    busy_cycles: int
    busy: float
    operations: int
    energy_pj: float
    starved_cycles: int | None = None
    blocked_cycles: int | None = None
    idle_cycles: int | None = None


@dataclass(frozen=True, slots=True)
class StreamResult:
    """DRAM traffic of one source (K high bits, K low bits, V, Q, output, weights, ...); scopes: which caused it.

    achieved_gbps and share_of_peak are over all cycles of the design. Latencies are those of reads in ns, from the
    controller taking a burst to the end of its data: mean, median, 99th percentile, longest; None for writes, and where
    the memory was not simulated burst by burst.
    """

    useful_bytes: int
    fetched_bytes: int
    bursts: int
    activations: int
    row_hit_rate: float | None
    achieved_gbps: float
    share_of_peak: float
    writes: bool
    scopes: tuple[str, ...] = ()
    read_latency_ns: float | None = None
    read_latency_p50_ns: float | None = None
    read_latency_p99_ns: float | None = None
    read_latency_max_ns: float | None = None


@dataclass(frozen=True, slots=True)
class EnergyItem:
    """Energy of one component, with where its energy per event comes from.

    low_pj and high_pj give the range of the published constants, where there are several; by_scope says how much of it
    each scope took.
    """

    energy_pj: float
    group: Literal["dram", "sram", "logic"]
    source: str
    kind: Kind
    low_pj: float | None = None
    high_pj: float | None = None
    by_scope: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AreaItem:
    """Area of one part of the design in mm2, with where the area of its units comes from."""

    component: str
    mm2: float
    source: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class TechnologyPoint:
    """A node, supplies and a clock, and what the design's part of the workload takes there.

    Parameters
    ----------
    node_nm: None where every constant stays at the node it is published for. logic_vdd, sram_vdd: in V.
    time_s, energy_pj, power_w: of everything that the design ran; by group (dram, sram, logic). area_mm2: None where
        the design does not say. The DRAM is another chip: node and supply leave it as it is.
    """

    node_nm: float | None
    logic_vdd: float
    sram_vdd: float
    clock_ghz: float
    time_s: float
    energy_pj: dict[str, float]
    power_w: dict[str, float]
    area_mm2: float | None


@dataclass(frozen=True, slots=True)
class RuleResult:
    """How one kind of constant follows the node, between which nodes in nm, and whether this run is outside of them."""

    name: str
    rule: str
    low_nm: float
    high_nm: float
    extrapolated: bool
    source: str


@dataclass(frozen=True, slots=True)
class TechnologyResult:
    """The technology that was simulated, and the design's own, which is the same unless `rescaled`."""

    used: TechnologyPoint
    native: TechnologyPoint
    rescaled: bool
    rules: tuple[RuleResult, ...]


@dataclass(frozen=True, slots=True)
class UnmodelledItem:
    """Ops of one name that neither the design nor a host ran, with their share of the whole workload."""

    name: str
    reason: str
    count: int
    operations: int
    bytes: int
    operations_share: float
    bytes_share: float


@dataclass(frozen=True, slots=True)
class InputField:
    """One input of the simulation and how far it can be trusted."""

    name: str
    value: str | int | float | bool | None
    kind: Kind
    source: str


@dataclass(frozen=True, slots=True)
class Result:
    """What one design makes of one workload.

    Parameters
    ----------
    design, design_description: its name and one line on it. parameters: all its parameters after `--set`.
    workload, model, schedule: what ran. seed: of everything random in the run.
    clock_ghz: cycles to seconds. fidelity: "event", "analytical" or "authors".
    scopes: "attention", "linear", "other", and "total" only if nothing is left out.
    layers, units, streams, energy: the parts. not_modelled: what is left out. inputs: with their kinds.
    peak_gops, peak_gbps: the design's roofs: operations of its multiplier arrays (2 per multiply-add) and DRAM bytes,
    both in 1e9 per second; None where the design does not say.
    timeline: what the units did in one op, where that was asked for.
    area: the parts of the design. technology: node, supply and clock, as simulated and as the design has them.
    output_error: |output - dense| / |dense| of the attention by the design's own rule or the run's pruning, root mean
    square over its ops; None where no Q, K and V were captured. error_kind: "measured", on how many ops, "not
    captured", or "dense".
    resources: what `--iso` makes equal, as far as the design says: multipliers, bandwidth_gbps, sram_bytes.
    """

    design: str
    design_description: str
    parameters: dict[str, Any]
    workload: str
    model: ModelInfo
    schedule: str
    seed: int
    clock_ghz: float
    fidelity: str
    scopes: dict[str, ScopeResult]
    layers: tuple[LayerResult, ...]
    units: dict[str, UnitResult]
    streams: dict[str, StreamResult]
    energy: dict[str, EnergyItem]
    not_modelled: tuple[UnmodelledItem, ...]
    inputs: tuple[InputField, ...]
    notes: tuple[str, ...] = ()
    peak_gops: float | None = None
    peak_gbps: float | None = None
    timeline: Timeline | None = None
    area: tuple[AreaItem, ...] = ()
    technology: TechnologyResult | None = None
    output_error: float | None = None
    error_kind: str = "not captured"
    resources: dict[str, float] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION

    @property
    def cycles(self) -> int | None:
        """Cycles of the attention scope; None where the design does not run it."""
        return self.scopes["attention"].cycles

    @property
    def time_s(self) -> float | None:
        """Seconds of the attention scope; None where the design does not run it."""
        return self.scopes["attention"].time_s

    @property
    def energy_pj(self) -> float:
        """Energy of everything the design ran."""
        return sum(item.energy_pj for item in self.energy.values())

    def assumed(self) -> tuple[InputField, ...]:
        """Return the inputs that are neither measured nor published."""
        return tuple(field for field in self.inputs if field.kind == "assumed")

    def to_json(self) -> str:
        """Return the result as JSON text that satisfies `schema()`.

        Raises
        ------
        InvalidValueError: a number is NaN or infinite.
        """
        return json.dumps({"format": FORMAT, **encode(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "result") -> Result:
        """Read what `to_json` wrote.

        Raises
        ------
        CorruptFileError: not JSON, or a field is missing or of the wrong type.
        FormatVersionError: written by a newer major version.
        """
        document = parse_json(text.encode(), where)
        if not isinstance(document, dict):
            raise CorruptFileError("the result is not a JSON object", where=where)
        return _from_document(document, where)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON to `path`; an interrupt keeps the old file."""
        write_atomic(path, self.to_json())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Result:
        """Read what `save` wrote; raises as `from_json`, and FileMissingError."""
        return _from_document(read_json(path), str(path))


def _from_document(document: dict[str, Any], where: str) -> Result:
    if document.get("format") != FORMAT:
        raise CorruptFileError("the file is not a simulation result", where=where, expected=f'"format": "{FORMAT}"')
    newer = check_version(document.get("schema_version"), SCHEMA_VERSION, where)
    body = {key: value for key, value in document.items() if key != "format"}
    result = decode(Result, body, where, ignore_unknown=newer)
    if missing := {"attention", "linear", "other"} - result.scopes.keys():
        raise CorruptFileError(f"the scope {min(missing)!r} is missing", where=where)
    return result


def dump_results(results: Sequence[Result]) -> str:
    """Return one result as its JSON object, several as a JSON array of such objects."""
    if len(results) == 1:
        return results[0].to_json()
    return "[\n" + ",\n".join(result.to_json().rstrip("\n") for result in results) + "\n]\n"


def load_results(path: str | os.PathLike[str]) -> tuple[Result, ...]:
    """Read what `dump_results` wrote to a file; raises as `Result.load`."""
    where = str(path)
    documents = parse_json(read_bytes(path), where)
    if not isinstance(documents, list):
        documents = [documents]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise CorruptFileError("the file is not a simulation result", where=where, expected="an object or an array")
    return tuple(_from_document(document, where) for document in documents)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a result, generated from the classes above."""
    document = json_schema(Result, "Result of one simulation", f"result-{SCHEMA_VERSION}.json")
    document["properties"] = {"format": {"const": FORMAT}, **document["properties"]}
    document["required"] = ["format", *document["required"], "schema_version"]
    return document


@lru_cache(maxsize=1)
def published_schema() -> dict[str, Any]:
    """Return the schema file that ships with the package; a test holds it equal to `schema()`."""
    text = (resources.files("simulator") / "schema" / f"result-{SCHEMA_VERSION}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
