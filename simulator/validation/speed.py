"""Measures of time and of rates."""

from __future__ import annotations

from simulator.errors import InvalidValueError
from simulator.result import Result, ScopeResult
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure

__all__ = ["seconds"]


def seconds(result: Result) -> float:
    """Return the time of attention, which every case here has."""
    assert result.time_s is not None
    return result.time_s


@measure
def executed_gops(bench: Bench, case: str, design: str) -> Measured:
    """Executed operations over time, in 1e9 a second."""
    result = bench.run(case, design)
    attention, time = result.scopes["attention"], seconds(result)
    parts = (
        Part.of("if pruned operations count as done", attention.operations_dense / time / 1e9),
        Part.of("executed operations", attention.operations / 1e9, "GOP"),
        Part.of("time", time * 1e3, "ms"),
    )
    note = "our count of operations over our time: 2 for each multiply-add that is left after pruning"
    return Measured.of(attention.operations / time / 1e9, note, parts)


@measure
def mean_time_ms(bench: Bench, case: str, design: str, speedups: list[float], own_speedup: float) -> Measured:
    """Time of the case brought to the mean of several tasks.

    Times the mean of (the case's speedup over a GPU / the task's), which takes the GPU to be equally fast on all.
    """
    scale = sum(own_speedup / speedup for speedup in speedups) / len(speedups)
    time = seconds(bench.run(case, design)) * 1e3
    return Measured.of(scale * time, f"{time:.3g} ms of the released task x {scale:.3f}")


def _linear(result: Result) -> ScopeResult:
    scope = result.scopes["linear"]
    if not scope.time_s:
        raise InvalidValueError(f"{result.design} runs no linear layers", expected="a design with `linear` settings")
    return scope


def _linear_ms(result: Result) -> float:
    return (_linear(result).time_s or 0.0) * 1e3


def _share_of_peak(result: Result, ms: float) -> float:
    """Return the rate at which the weights are read, if that takes so long, over the peak of the memory; in percent."""
    assert result.peak_gbps is not None
    return 100 * result.streams["weight"].useful_bytes / ms / 1e6 / result.peak_gbps


@measure
def linear_time_ratio(bench: Bench, case: str, slow: str, fast: str) -> Measured:
    """Time of the linear layers on one design over that on another."""
    results = {name: bench.run(case, name) for name in (slow, fast)}
    times = {name: _linear_ms(result) for name, result in results.items()}
    parts = tuple(Part.of(name, time, "ms") for name, time in times.items())
    return Measured.of(times[slow] / times[fast], parts=parts)


@measure
def linear_time_ms(bench: Bench, case: str, design: str, memories: list[str], published_ms: float) -> Measured:
    """Time of the linear layers on the design's memory and on others of the same peak, with the share of it in use."""
    own = bench.run(case, design)
    results = {str(own.parameters["dram.standard"]): own}
    results |= {name: bench.run(case, design, {"dram.standard": name}) for name in memories}
    times = {name: _linear_ms(result) for name, result in results.items()}
    parts = [Part.of("of the peak, published", _share_of_peak(own, published_ms), "%")]
    for name, result in results.items():
        parts += [Part.of(name, times[name]), Part.of(f"of the peak, {name}", _share_of_peak(result, times[name]), "%")]
    return Measured(min(times.values()), max(times.values()), parts=tuple(parts))
