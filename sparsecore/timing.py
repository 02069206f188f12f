"""Wall-clock timing that holds on a noisy machine: alternatives take turns in one process, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

__all__ = ["Clock", "clock_of", "interleaved", "median_ratio"]

Clock = Callable[[Callable[[], object]], float]
"""Seconds of one call."""

_QUEUED = 20

Name = TypeVar("Name")


def interleaved(
    calls: Mapping[Name, Callable[[], object]],
    *,
    rounds: int = 5,
    warmup: int = 1,
    budget_s: float = float("inf"),
    least: int = 1,
    clock: Clock | None = None,
) -> dict[Name, list[float]]:
    """Time each of `calls` once per round, in turn, and return seconds per round for each.

    Every second round goes through the calls backwards, so that none always follows the same neighbour. After
    `budget_s` seconds no further round starts, but `least` of them are always completed.

    Parameters
    ----------
    calls: what to time, by name. rounds, warmup: counted and uncounted turns; the budget is for the counted ones.
    clock: by default that of the CPU.
    """
    clock = clock or _seconds
    for _ in range(warmup):
        for call in calls.values():
            call()
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    order = list(calls.items())
    stop = time.perf_counter() + budget_s
    for turn in range(rounds):
        for name, call in order if turn % 2 == 0 else reversed(order):
            seconds[name].append(clock(call))
        if turn + 1 >= least and time.perf_counter() >= stop:
            break
    return seconds


def clock_of(device: torch.device) -> Clock:
    """The clock of calls on `device`.

    On a GPU one call in a queue of several, between two events: it counts what the host takes to queue a call where
    that is longer than the work, as in a model.
    """
    return _seconds if device.type != "cuda" else lambda call: _queued_seconds(call, device)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _queued_seconds(call: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(_QUEUED):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / _QUEUED


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median over rounds of numerator / denominator; neighbours in time see the same machine."""
    return statistics.median(a / b for a, b in zip(numerator, denominator))
