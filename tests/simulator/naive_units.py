"""Formulas and states of the stepped SpAtten (naive_spatten), from docs/simulator.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

BUSY, STARVED, BLOCKED = "busy", "starved", "blocked"
BURST = 32


@cache
def quick_select(n: int, t: int, parallelism: int, per_round: int) -> Fraction:
    """E(n, t) of the page."""
    rest = sum((quick_select(m, t, parallelism, per_round) for m in range(t, n)), Fraction())
    rest += sum((quick_select(n - t + j, j, parallelism, per_round) for j in range(1, t)), Fraction())
    return math.ceil(n / parallelism) + per_round + rest / n


def selection_cycles(topk: Any, candidates: int, kept: int, output_pass: bool) -> int:
    if not 0 < kept < candidates:
        return 0
    cycles = round(float(quick_select(candidates, kept, topk.parallelism, topk.cycles_per_round)))
    width = topk.parallelism
    if output_pass or not topk.output_hidden:
        cycles += math.ceil(candidates / width) + 1 + math.ceil(math.log2(width))
    return cycles


class Array:
    """Formulas of the multiplier array."""

    def __init__(self, settings: Any, head_dim: int) -> None:
        lanes = 1
        while lanes < head_dim:
            lanes *= 2
        self.lanes = max(lanes, settings.minimum_lanes)
        self.multipliers = settings.multipliers

    def cycles(self, rows: int) -> int:
        if self.lanes > self.multipliers:
            return rows * math.ceil(self.lanes / self.multipliers)
        return math.ceil(rows / (self.multipliers // self.lanes))

    @property
    def score_latency(self) -> int:
        return 2 + math.ceil(math.log2(self.lanes))

    @property
    def output_latency(self) -> int:
        return 3 + math.ceil(math.log2(max(self.multipliers // self.lanes, 1)))


@dataclass(eq=False)
class Head:
    queries: int
    low: int
    values: int
    blocks: bool = False
    entered: int = 0
    decided: int = 0
    left: int = 0
    keys: tuple[int, int] | None = None  # first and last cycle of the data, once they are there
    low_bits: tuple[int, int] | None = None
    low_asked: bool = False
    value: tuple[int, int] | None = None
    value_lines: bool = False
    value_wanted: bool = False
    appends: bool = False


@dataclass(eq=False)
class Query:
    head: Head
    low: int
    opens: bool
    closes: bool
    count: int = 1
    again: bool = False
    decided: bool = False
    since: int = 0  # from when on it could have been taken, but for data


@dataclass(eq=False)
class Request:
    parts: list[int]  # bytes in whole bursts
    head: Head
    what: str
    ends: int | None = None
    first: int = 0

    @property
    def bursts(self) -> int:
        return sum(self.parts) // BURST


@dataclass
class Worker:
    """What is the same for every unit: one item at a time, results in order, a log of what it was in each cycle."""

    latency: int
    ends: int = 0  # the cycle before which the work under way ends
    results: list[tuple[int, Query]] = field(default_factory=list)
    free_since: int = 0
    log: list[str] = field(default_factory=list)

    def start(self, cycle: int, query: Query, service: int, ahead: int) -> None:
        ahead = min(max(ahead, 0), service - 1)
        for back in range(1, ahead + 1):
            self.log[-back] = BUSY
        self.ends = cycle + service - ahead
        self.results.append((self.ends + self.latency, query))

    def due(self, cycle: int) -> bool:
        return bool(self.results) and self.results[0][0] <= cycle

    def account(self, cycles: int) -> tuple[int, int, int, int]:
        log = (self.log + [STARVED] * cycles)[:cycles]
        while log and log[-1] == STARVED:
            log.pop()
        return log.count(BUSY), log.count(STARVED), log.count(BLOCKED), cycles - len(log)
