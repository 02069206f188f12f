"""Measures of A3 and MNNFast, and of the three that SpAtten's Table III puts side by side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import fsum, prod
from typing import Any, Literal

import numpy as np

from simulator.designs.a3 import A3
from simulator.designs.a3.pipeline import Work
from simulator.designs.registry import make
from simulator.engine.heads import chain_cycles
from simulator.engine.interface import Cost
from simulator.validation import cases
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure
from simulator.validation.power import watt
from simulator.validation.speed import seconds
from simulator.workload.ir import AttentionOp

__all__: list[str] = []

# A3 counts its own throughput with K and V on the chip: a memory that takes next to no time.
ON_CHIP: Mapping[str, Any] = {
    "dram.standard": "ideal",
    "dram.channels": None,
    "dram.ideal_latency": 0,
    "dram.ideal_bytes_per_cycle": 1 << 20,
    "sort.fetched": False,
}
QUERIES = 320  # of a head: n of BERT, over which the sort is amortised; many enough for the others


def _a3(design: str, settings: Mapping[str, Any]) -> A3:
    made = make(design, {**ON_CHIP, **settings})[0]
    assert isinstance(made, A3)
    return made


def _head(keys: int) -> AttentionOp:
    context, bits = max(keys, QUERIES), (9, 9, 0, 9)
    return AttentionOp(0, 0, "summarise", 0, context, QUERIES, keys, (0,), 1, 64, (keys,), keys, (0,), *bits)


def _cost(design: str, keys: int, settings: Mapping[str, Any]) -> Cost:
    return _a3(design, settings).cost(_head(keys), None, 0)


@measure
def a3_base_cycles(_: Bench, rows: int, quantity: Literal["per query", "latency"]) -> Measured:
    """Cycles of the modules of base A3: of one query, and by which each further one is later."""
    design = _a3("a3-base", {})
    op = _head(rows)
    work = Work.of(design.settings, design.decision(op), slice(0, 1), rows).cycles()
    first, second = (chain_cycles(work[:, :count]) for count in (1, 2))
    return Measured.of(first if quantity == "latency" else second - first)


def _settings(
    share: float, percent: float, candidates: float, kept: float, sort: float | None = None
) -> dict[str, float]:
    found = {"search.share": share, "post_scoring.percent": percent}
    found |= {"fractions.candidates": candidates, "fractions.kept": kept}
    return found if sort is None else found | {"sort.cycles_per_element": sort}


def _gain(keys: int, settings: Mapping[str, Any]) -> float:
    return _cost("a3-base", keys, {}).cycles / _cost("a3", keys, settings).cycles


@measure
def a3_gain(
    _: Bench, keys: int, share: float, percent: float, candidates: float, kept: float, sorted_before: bool
) -> Measured:
    """Throughput of approximate over base A3, from the shares of candidates and of kept keys.

    sorted_before: the columns of K are sorted off the critical path; if not, the sort is part of the time.
    """
    settings = _settings(share, percent, candidates, kept, 0.0 if sorted_before else None)
    each = _cost("a3", keys, settings).cycles / QUERIES
    return Measured.of(_gain(keys, settings), parts=(Part.of("a query", each, "cycles"),))


@measure
def a3_sorting_share(_: Bench, keys: int, share: float, percent: float, candidates: float, kept: float) -> Measured:
    """Percent of the throughput that is lost to sorting."""
    with_sort, without = (
        _cost("a3", keys, _settings(share, percent, candidates, kept, sort)).cycles for sort in (None, 0.0)
    )
    return Measured.of(100 * (1 - without / with_sort))


A3_PARTS = {
    "dot product": ("logic.dot_product",),
    "exponent": ("logic.exponent",),
    "output": ("logic.output",),
    "memory": ("sram.key", "sram.value"),
}


@measure
def a3_energy_share(bench: Bench, case: str, part: Literal["dot product", "exponent", "output", "memory"]) -> Measured:
    """Percent of base A3's dynamic energy on the chip."""
    energy = bench.run(case, "a3-base").energy
    sums = {name: fsum(energy[item].energy_pj for item in items) for name, items in A3_PARTS.items()}
    return Measured.of(100 * sums[part] / fsum(sums.values()))


@measure
def one_operation_gops(bench: Bench, case: str, design: str) -> Measured:
    """Multiply-adds before pruning over the time, in 1e9 a second: one operation for each multiplier and cycle."""
    result = bench.run(case, design)
    rate = result.scopes["attention"].operations_dense / 2 / seconds(result) / 1e9
    return Measured.of(rate, "our count: 1 for each multiply-add before pruning, as Table III credits A3")


def _a3_rate(bench: Bench, gains: list[list[float]]) -> float:
    """Multiply-adds of base A3 a second times the geometric mean of the gains."""
    found = []
    for keys, share, percent, candidates, kept in gains:
        sort = None if keys == QUERIES else 0.0
        found.append(_gain(int(keys), _settings(share, percent, candidates, kept, sort)))
    return 128.0 * prod(found) ** (1 / len(found))


@measure
def a3_gops(bench: Bench, gains: list[list[float]]) -> Measured:
    """As SpAtten takes it: 128 multipliers at 1 GHz times the geometric mean of A3's gains.

    gains: keys, M / n, T, candidates and kept of each workload; sorting counts for the one of 320 keys, BERT.
    """
    rate = _a3_rate(bench, gains)
    return Measured.of(rate, "one operation a multiplier and cycle", (Part.of("mean gain", rate / 128, "x"),))


@measure
def a3_gop_per_joule(bench: Bench, case: str, gains: list[list[float]], dram_watt: list[float]) -> Measured:
    """The same over the power of the chip, as it runs the case, and that of the DRAM, from least to most."""
    own, rate = watt(bench.run(case, "a3"), "logic", "sram"), _a3_rate(bench, gains)
    found = [rate / (own + dram) for dram in dram_watt]
    return Measured(min(found), max(found), parts=(Part.of("power of the chip", own, "W"),))


@measure
def rate_ratio(bench: Bench, case: str, numerator: str, denominator: str) -> Measured:
    """Time of one design over that of the other on the same work."""
    times = {name: seconds(bench.run(case, name)) for name in (numerator, denominator)}
    parts = tuple(Part.of(name, 1e3 * time, "ms") for name, time in times.items())
    return Measured.of(times[denominator] / times[numerator], parts=parts)


@measure
def pruned_rate_ratio(
    bench: Bench,
    case: str,
    design: str,
    baseline: str,
    token_keep: list[float],
    head_keep: list[float],
    bits: list[int],
) -> Measured:
    """Rate of a design that prunes by a range of plans over that of the baseline, as Table III counts them.

    A multiply-add before pruning counts as 2 operations for SpAtten and as 1 for the others: the ratio of the times
    stands beside.
    """
    workload = bench.case(case)
    tokens = max(op.context for op in workload.attention)
    plans = [cases.BertPlan(*corner) for corner in product(token_keep, head_keep, bits)]
    base = seconds(bench.run(case, baseline))
    found = [base / seconds(bench.run(cases.pruned_bert("bert-base", tokens, plan), design)) for plan in plans]
    low, high = float(np.min(found)), float(np.max(found))
    return Measured(
        2 * low, 2 * high, "2 operations a multiply-add against 1", (Part("ratio of the times", low, high),)
    )
