"""What is kept of a point: one record, small enough that a million of them fit in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simulator.comparison import interval
from simulator.result import Result

__all__ = ["Metrics", "Record", "ScopeMetrics", "metrics_of"]


@dataclass(frozen=True, slots=True)
class ScopeMetrics:
    """One scope: its time, energy (with the interval of the constants) and traffic; None where it is not modelled."""

    modelled_by: str
    cycles: int | None
    time_s: float | None
    energy_pj: float | None
    energy_low_pj: float | None
    energy_high_pj: float | None
    operations: int
    operations_dense: int
    dram_useful_bytes: int
    dram_fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a sweep keeps of a result."""

    design: str
    workload: str
    schedule: str
    clock_ghz: float
    fidelity: str
    scopes: dict[str, ScopeMetrics]
    area_mm2: float | None
    output_error: float | None
    error_kind: str
    resources: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One point that was simulated, or could not be.

    Parameters
    ----------
    key: hash of design, workload, run and version. arch, model, values: the point, for who reads the file.
    metrics: None where the design cannot run it; error then says why.
    """

    key: str
    arch: str
    model: str
    values: dict[str, Any]
    metrics: Metrics | None
    error: str | None = None


def metrics_of(result: Result) -> Metrics:
    """Return what is kept of a result."""
    scopes = {}
    for name, scope in result.scopes.items():
        low, high = interval(result, name)
        scopes[name] = ScopeMetrics(
            scope.modelled_by,
            scope.cycles,
            scope.time_s,
            scope.energy_pj,
            low,
            high,
            scope.operations,
            scope.operations_dense,
            scope.dram_useful_bytes,
            scope.dram_fetched_bytes,
        )
    return Metrics(
        design=result.design,
        workload=result.workload,
        schedule=result.schedule,
        clock_ghz=result.clock_ghz,
        fidelity=result.fidelity,
        scopes=scopes,
        area_mm2=sum(item.mm2 for item in result.area) if result.area else None,
        output_error=result.output_error,
        error_kind=result.error_kind,
        resources=result.resources,
    )
