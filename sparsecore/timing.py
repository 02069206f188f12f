"""Wall-clock timing that holds on a noisy machine: alternatives take turns in one process, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["interleaved", "median_ratio"]

Name = TypeVar("Name")


def interleaved(
    calls: Mapping[Name, Callable[[], object]],
    *,
    rounds: int = 5,
    warmup: int = 1,
    budget_s: float = float("inf"),
    least: int = 1,
) -> dict[Name, list[float]]:
    """Time each of `calls` once per round, in turn, and return seconds per round for each.

    Every second round goes through the calls backwards, so that none always follows the same neighbour. After
    `budget_s` seconds no further round starts, but `least` of them are always completed.

    Parameters
    ----------
    calls: what to time, by name. rounds, warmup: counted and uncounted turns; the budget is for the counted ones.
    """
    for _ in range(warmup):
        for call in calls.values():
            call()
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    order = list(calls.items())
    stop = time.perf_counter() + budget_s
    for turn in range(rounds):
        for name, call in order if turn % 2 == 0 else reversed(order):
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
        if turn + 1 >= least and time.perf_counter() >= stop:
            break
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median over rounds of numerator / denominator; neighbours in time see the same machine."""
    return statistics.median(a / b for a, b in zip(numerator, denominator))
