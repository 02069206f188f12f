"""Measures of time and of rates."""

from __future__ import annotations

from simulator.result import Result
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
    return Measured.of(attention.operations / time / 1e9, parts=parts)


@measure
def mean_time_ms(bench: Bench, case: str, design: str, speedups: list[float], own_speedup: float) -> Measured:
    """Time of the case brought to the mean of several tasks.

    Times the mean of (the case's speedup over a GPU / the task's), which takes the GPU to be equally fast on all.
    """
    scale = sum(own_speedup / speedup for speedup in speedups) / len(speedups)
    time = seconds(bench.run(case, design)) * 1e3
    return Measured.of(scale * time, f"{time:.3g} ms of the released task x {scale:.3f}")
