"""Measures that need ratios, widths or lengths that nobody printed: an interval over a stated range of them.

The 30 tasks are BERT-base and BERT-large on eleven tasks, and GPT-2-Small and GPT-2-Medium on four (paper, section
V-A). Reductions are those of attention against the same sequences with nothing pruned, stored at 32 bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from math import fsum
from statistics import geometric_mean
from typing import Literal

from simulator.validation import cases
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, Part, measure
from simulator.validation.power import calibrated_watt
from simulator.validation.speed import seconds
from simulator.workload.ir import AttentionOp, Workload

__all__: list[str] = []

Amounts = tuple[float, float]  # dense, pruned
BERT = ("bert-base", "bert-large")
# Both models under the schedule released for the one, and for the other.
GPT2 = (
    ("gpt2-small, medium's schedule", "gpt2-medium@wikitext2"),
    ("gpt2-small@wikitext2", "gpt2-medium, small's schedule"),
)
GPT2_TASKS = 4


def _at_32_bit(op: AttentionOp) -> AttentionOp:
    low = (0,) * len(op.heads)
    return dataclasses.replace(op, query_bits=32, key_msb_bits=32, key_lsb_bits=0, lsb_queries=low, value_bits=32)


def _amounts(workload: Workload, what: str, pruned: str) -> Amounts:
    """Return operations or bytes of attention, dense and pruned; `pruned` "tokens": heads and widths left alone."""
    if pruned == "tokens":
        workload = cases.with_all_heads(workload)
    ops, dense = workload.attention, workload.dense().attention
    if what == "compute":
        return fsum(op.operations for op in dense), fsum(op.operations for op in ops)
    at_full_width = map(_at_32_bit, ops) if pruned == "tokens" else ops
    return fsum(op.bytes for op in map(_at_32_bit, dense)), fsum(op.bytes for op in at_full_width)


MEANS: dict[str, Callable[[Sequence[Amounts]], float]] = {
    "arithmetic mean": lambda tasks: fsum(dense / pruned for dense, pruned in tasks) / len(tasks),
    "geometric mean": lambda tasks: geometric_mean([dense / pruned for dense, pruned in tasks]),
    "pooled": lambda tasks: fsum(dense for dense, _ in tasks) / fsum(pruned for _, pruned in tasks),
}


@measure
def reduction(
    bench: Bench,
    what: Literal["compute", "dram"],
    pruned: Literal["tokens", "everything"],
    tasks: Literal["all", "gpt2"],
    task_names: list[str],
    length_scale: list[float],
    token_keep: list[float],
    head_keep: list[float],
    bits: list[int],
) -> Measured:
    """How many times fewer operations or bytes, in three means over the tasks.

    GPT-2 runs from the released medium schedule to the released small one, on all its tasks. BERT runs over all corners
    of the ranges given: mean kept tokens and heads of the layers that prune, stored bits, and a factor on the lengths.
    """
    corners: list[list[Amounts]] = [[]]
    if tasks == "all":
        plans = [cases.BertPlan(*corner) for corner in product(token_keep, head_keep, bits)]
        lengths = [bench.case(f"bert-base@{name}").sequences[0].tokens for name in task_names]
        scaled = [[max(1, round(scale * length)) for length in lengths] for scale in length_scale]
        corners = [_bert(plan, sizes, what, pruned) for plan in plans for sizes in scaled]
    both = [_gpt2(bench, names, what, pruned) for names in GPT2]
    found = [[*bert, *gpt2] for bert in corners for gpt2 in both]
    parts = tuple(Part(name, *_hull(mean(corner) for corner in found)) for name, mean in MEANS.items())
    return Measured(parts[0].low, parts[0].high, "arithmetic mean; which one the paper takes is not printed", parts[1:])


def _bert(plan: cases.BertPlan, lengths: list[int], what: str, pruned: str) -> list[Amounts]:
    return [_amounts(cases.pruned_bert(model, size, plan), what, pruned) for model in BERT for size in lengths]


def _gpt2(bench: Bench, names: Sequence[str], what: str, pruned: str) -> list[Amounts]:
    found = (_amounts(bench.case(name), what, pruned) for name in names)
    return [amounts for amounts in found for _ in range(GPT2_TASKS)]


def _hull(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


@measure
def eighth_efficiency(
    bench: Bench,
    quantity: Literal["GOP/s", "GOP/J"],
    design: str,
    tokens: int,
    token_keep: list[float],
    head_keep: list[float],
    bits: list[int],
) -> Measured:
    """Dense operations of a BERT-base over the time, or the energy, that the design takes for what is left of them."""
    plans = [cases.BertPlan(*corner) for corner in product(token_keep, head_keep, bits)]
    results = [bench.run(cases.pruned_bert("bert-base", tokens, plan), design) for plan in plans]
    times = [seconds(result) for result in results]
    scopes = [result.scopes["attention"] for result in results]
    if quantity == "GOP/s":
        below, note = times, "our count of operations: 2 for each multiply-add before pruning"
    else:
        powers = (fsum(calibrated_watt(bench, result).values()) for result in results)
        below = [time * power for time, power in zip(times, powers)]
        note = "our count, 2 for each multiply-add before pruning; logic and SRAM with the calibrated constants"
    dense = _hull(scope.operations_dense / 1e9 / value for scope, value in zip(scopes, below))
    executed = _hull(scope.operations / 1e9 / value for scope, value in zip(scopes, below))
    return Measured(*dense, note, (Part("executed operations only", *executed),))
