"""Measures that are arithmetic on the parameters of a design or of a workload."""

from __future__ import annotations

from simulator.designs.registry import make
from simulator.designs.spatten import SpAtten
from simulator.units import quick_select_mean
from simulator.validation.bench import Bench
from simulator.validation.measured import Measured, measure
from simulator.workload.ir import AttentionOp

__all__: list[str] = []


def _spatten(design: str) -> SpAtten:
    made = make(design)[0]
    assert isinstance(made, SpAtten)
    return made


@measure
def sram_bytes(_: Bench, design: str, tokens: int, head_dim: int) -> Measured:
    """Bytes that heads of so many tokens take in all buffers of the K (or V) SRAM, line by line."""
    machine = _spatten(design).machine
    lines = machine.settings.sram.buffers * machine.lines(tokens, head_dim)
    return Measured.of(lines * machine.sram.line_bits // 8)


@measure
def longest_context(_: Bench, design: str, head_dim: int) -> Measured:
    """Keys of one head that fit in one buffer of the SRAM."""
    machine = _spatten(design).machine
    return Measured.of(machine.sram.lines_per_buffer * machine.array.rows_per_cycle(head_dim))


@measure
def peak_tflops(_: Bench, design: str) -> Measured:
    """Both arrays, a multiply-add being 2 operations."""
    return Measured.of(_spatten(design).peak_gops / 1e3)


@measure
def peak_gb_per_s(_: Bench, design: str) -> Measured:
    """Channels times bytes of a burst over the time that it holds the bus."""
    return Measured.of(make(design)[0].memory_spec.peak_gb_per_s)


@measure
def scores_per_cycle(_: Bench, design: str, head_dim: int) -> Measured:
    """Keys over the cycles that Q x K takes for them."""
    keys = 1 << 10
    return Measured.of(keys / _spatten(design).machine.array.cycles(keys, head_dim))


@measure
def requests(bench: Bench, case: str) -> Measured:
    """Heads that compute attention, over all layers and steps."""
    return Measured.of(sum(len(op.heads) for op in bench.case(case).attention))


@measure
def low_bit_requests(bench: Bench, case: str) -> Measured:
    """Queries of a head that are computed again with the low bits of K."""
    return Measured.of(sum(op.recomputed for op in bench.case(case).attention))


@measure
def attention_gflop(bench: Bench, case: str, again: bool = True) -> Measured:
    """Operations of attention, in 1e9, with or without the scores computed again with the low bits of K."""
    workload = bench.case(case)
    repeated = sum(2 * op.head_dim * op.recomputed * op.keys for op in workload.attention)
    return Measured.of((workload.operations("attention") - (0 if again else repeated)) / 1e9)


def stored_bits(op: AttentionOp) -> int:
    """Bits of K, with the low ones of heads that need them, and of V that the op's heads read."""
    keys = len(op.heads) * op.key_msb_bits + sum(count > 0 for count in op.lsb_queries) * op.key_lsb_bits
    return op.head_dim * (keys * op.keys + sum(op.values) * op.value_bits)


@measure
def fewer_bits(bench: Bench, case: str, baseline_bits: int) -> Measured:
    """Bits of K and V with nothing pruned at `baseline_bits`, over those of the case."""
    workload = bench.case(case)
    heads = workload.model.heads
    dense = sum(2 * heads * op.head_dim * op.context * baseline_bits for op in workload.attention)
    return Measured.of(dense / sum(map(stored_bits, workload.attention)))


@measure
def linear_gflop(bench: Bench, case: str) -> Measured:
    """Operations of linear layers, in 1e9."""
    return Measured.of(bench.case(case).operations("linear") / 1e9)


@measure
def quick_select_cycles(_: Bench, n: int, k: int, parallelism: int) -> Measured:
    """Exact mean over random pivots."""
    return Measured.of(quick_select_mean(n, k, parallelism))
