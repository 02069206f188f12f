"""Results side by side: what each design takes for the same work, and factors where the scopes are equal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.codec import encode
from simulator.comparison.orders import Order, interval, orders
from simulator.comparison.work import MODELLED, same_work
from simulator.errors import FormatVersionError, InvalidValueError, UnsupportedError
from simulator.result import Result, ScopeResult

__all__ = ["Factors", "Side", "SideBySide", "factors", "require_comparable", "side_by_side"]

FORMAT, VERSION = "sparsecore-comparison", "1.0"


@dataclass(frozen=True, slots=True)
class Factors:
    """Ratios of `baseline` over `result` in one scope: above 1, `result` is better. Energy is None for a host."""

    scope: str
    result: str
    baseline: str
    speedup: float
    dram_fetched: float | None
    energy: float | None


@dataclass(frozen=True, slots=True)
class Side:
    """One design in a scope. What it does not model, or nobody measured, is None.

    Parameters
    ----------
    modelled_by, time_s, energy_pj, dram_useful_bytes, dram_fetched_bytes: of the scope.
    energy_low_pj, energy_high_pj: over the intervals of the published constants.
    area_mm2: of the whole design. output_error: of the attention output, relative to dense.
    error_kind: how it is known.
    speedup, energy_factor: how many times faster, and with how much less energy, the first design does the same work.
    resources: multipliers, bandwidth_gbps, sram_bytes, as far as the design says.
    """

    design: str
    fidelity: str
    modelled_by: str
    time_s: float | None
    energy_pj: float | None
    energy_low_pj: float | None
    energy_high_pj: float | None
    dram_useful_bytes: int | None
    dram_fetched_bytes: int | None
    area_mm2: float | None
    output_error: float | None
    error_kind: str
    speedup: float | None
    energy_factor: float | None
    resources: dict[str, float]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Designs on one workload in one scope; factors are those of the first. orders: of every two, and how sure."""

    workload: str
    scope: str
    sides: tuple[Side, ...]
    orders: tuple[Order, ...]

    def to_json(self) -> str:
        """Return the fields as JSON text."""
        return json.dumps({"format": FORMAT, "version": VERSION, **encode(self)}, indent=1) + "\n"


def require_comparable(results: Sequence[Result], scope: str = "attention") -> None:
    """Raise unless all results model the scope, of the same work, in the same schema of results.

    Raises
    ------
    InvalidValueError: fewer than two results. FormatVersionError: results of different schema versions.
    UnsupportedError: the scope is not modelled in all of them, or they did not start from the same dense work.
    """
    if len(results) < 2:
        where = results[0].design if results else ""
        raise InvalidValueError("one result cannot be compared", where=where, expected="two or more results")
    for result in results[1:]:
        factors(result, results[0], scope)


def factors(result: Result, baseline: Result, scope: str = "attention") -> Factors:
    """Return how much faster and more economical `result` is than `baseline` in a scope.

    Raises
    ------
    FormatVersionError: the two results have different schema versions: what one lacks would look like nothing.
    UnsupportedError: the scope is not modelled in both, or by the design in one and by a host in the other, or the two
        did not start from the same dense work.
    """
    names = f"{result.design} and {baseline.design}"
    if result.schema_version != baseline.schema_version:
        raise FormatVersionError(
            f"{names} are results of schemas {result.schema_version} and {baseline.schema_version}",
            expected="results of one schema version",
            hint="simulate the older one again",
        )
    ours, theirs = result.scopes.get(scope), baseline.scopes.get(scope)
    if ours is None or theirs is None or not ours.time_s or not theirs.time_s:
        raise UnsupportedError(
            f"{names} cannot be compared in the scope {scope!r}: it is not modelled in both",
            expected="a scope with a time in both results",
            hint=_hint(result, baseline),
        )
    if ours.modelled_by != theirs.modelled_by:
        raise UnsupportedError(
            f"{names} cannot be compared in the scope {scope!r}: one runs it by itself, the other on a host",
            expected="equal scopes",
            hint=_hint(result, baseline),
        )
    if not same_work(result, baseline, scope):
        raise UnsupportedError(f"{names} ran different workloads", expected="equal dense operations in the scope")
    fetched = theirs.dram_fetched_bytes / ours.dram_fetched_bytes if ours.dram_fetched_bytes else None
    energy = _quotient(theirs.energy_pj, ours.energy_pj)
    return Factors(scope, result.design, baseline.design, theirs.time_s / ours.time_s, fetched, energy)


def _hint(result: Result, baseline: Result) -> str:
    def own(one: Result) -> set[str]:
        return {name for name, scope in one.scopes.items() if scope.modelled_by in MODELLED and scope.time_s}

    shared = sorted(own(result) & own(baseline))
    both = f"both model {' and '.join(shared)}; " if shared else "they share none; "
    return both + "--host gives a time to what a design does not run"


def side_by_side(results: Sequence[Result], scope: str = "attention") -> SideBySide:
    """Return the results beside each other in a scope; give designs that ran twice different names before.

    Raises
    ------
    InvalidValueError: no result.
    """
    if not results:
        raise InvalidValueError("a comparison needs results", expected="two or more results")
    sides = tuple(_side(result, results[0], scope) for result in results)
    return SideBySide(results[0].workload, scope, sides, orders(results, scope))


def _side(result: Result, first: Result, name: str) -> Side:
    scope = result.scopes.get(name)
    own = scope is not None and scope.modelled_by == "design"
    low, high = interval(result, name)
    base = first.scopes[name] if same_work(first, result, name) else None
    return Side(
        design=result.design,
        fidelity=result.fidelity,
        modelled_by="not modelled" if scope is None else scope.modelled_by,
        time_s=None if scope is None else scope.time_s,
        energy_pj=None if scope is None else scope.energy_pj,
        energy_low_pj=low,
        energy_high_pj=high,
        dram_useful_bytes=scope.dram_useful_bytes if scope is not None and own else None,
        dram_fetched_bytes=scope.dram_fetched_bytes if scope is not None and own else None,
        area_mm2=sum(item.mm2 for item in result.area) if result.area else None,
        output_error=result.output_error,
        error_kind=result.error_kind,
        speedup=_over(scope, base, "time_s"),
        energy_factor=_over(scope, base, "energy_pj"),
        resources=result.resources,
    )


def _over(scope: ScopeResult | None, base: ScopeResult | None, field: str) -> float | None:
    return _quotient(getattr(scope, field, None), getattr(base, field, None))


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None
