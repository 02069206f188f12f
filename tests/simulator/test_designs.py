"""SpAtten and the systolic baseline: closed formulas, what each mechanism costs, properties, and what does not fit."""

from __future__ import annotations

import dataclasses
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from attention_ops import attention, cost, design, random_op, useful

from simulator.designs.registry import design_names, make
from simulator.errors import UnsupportedError
from simulator.memory import Traffic
from simulator.workload.ir import AttentionOp, LinearOp


def test_dense_summarisation_is_bound_by_the_arrays() -> None:
    op = attention(384, heads=12)
    result = cost(op)
    array = 12 * 384 * (384 // 8)
    assert result.busy_cycles["qk"] == result.busy_cycles["softmax"] == result.busy_cycles["pv"] == array
    assert array < result.cycles < array * 1.01 + 500  # the pipeline fills once, heads overlap
    assert op.operations / result.cycles > 0.98 * 2048  # 2 TFLOPS at 1 GHz


def test_pipeline_fill_of_a_single_query() -> None:
    """One query, one head, no contention: fetch, scores, softmax, V is there, output, its write: all exposed."""
    op = attention(64, 1, heads=1)
    machine = design()
    result = machine.cost(op, None, 0)
    t = machine.memory_spec.timing_ticks
    softmax, array = 87, 64 // 8
    compute = array + 8 + array + softmax + array + 3 + 3
    first_read = t["rcd_read"] + t["cl"] + t["burst"]
    write = t["rcd_write"] + t["cwl"] + t["burst"]
    # Between them lies only how long the few rows of K take to arrive.
    assert first_read + compute - array <= result.cycles <= first_read + compute + 2 * (write + t["rp"]) + 60


def test_generation_is_bound_by_the_memory() -> None:
    op = attention(1024, 1, heads=16)
    result = cost(op)
    fetched = 32 * sum(traffic.bursts for traffic in result.traffic.values())
    assert result.busy_cycles["qk"] < 0.4 * result.cycles
    assert 0.6 < fetched / result.cycles / 512 < 1 - 350 / 3900


def test_k_and_v_are_fetched_once_per_head_when_summarising() -> None:
    got = useful(cost(attention(100, heads=3)))
    assert got["key_high"] == 3 * 100 * 64
    assert got["value"] == 3 * 100 * 96
    assert got["query"] == got["output"] == 3 * 100 * 96
    assert got["key_low"] == got["new_key_value"] == 0


def test_k_and_v_are_fetched_for_every_generated_token() -> None:
    machine = design()
    ops = [attention(100 + step, 1, heads=3, step=step) for step in range(3)]
    totals = [useful(machine.cost(op, None, 0)) for op in ops]
    assert [got["key_high"] for got in totals] == [3 * 64 * n for n in (100, 101, 102)]
    assert all(got["new_key_value"] == 3 * (64 + 32 + 96) for got in totals)


def test_low_bits_are_fetched_at_most_once_per_head() -> None:
    for low in ((1, 0, 5), (100, 2, 0)):
        got = useful(cost(attention(100, heads=3, lsb_queries=low)))
        assert got["key_low"] == sum(count > 0 for count in low) * 100 * 32


def test_low_bit_queries_cost_a_second_pass_and_little_more() -> None:
    base, more = cost(attention(384, heads=4)), cost(attention(384, heads=4, lsb_queries=(20,) * 4))
    again = 4 * 20 * (384 // 8)
    assert more.busy_cycles["qk"] == base.busy_cycles["qk"] + again
    # While the array of Q x K works again, that of prob x V catches up with queries that waited for the first V.
    assert base.cycles + 0.9 * again <= more.cycles < base.cycles + 1.3 * again
    # One query alone has nothing to hide behind: low bits, scores and softmax come on top.
    single, twice = (cost(attention(384, 1, heads=1, lsb_queries=(n,))).cycles for n in (0, 1))
    assert twice - single > 384 // 8 + 87


def test_value_rows_are_the_union_over_the_queries() -> None:
    got = useful(cost(attention(100, heads=2, values=(40, 70), local_values=30)))
    assert got["value"] == (40 + 70) * 96


def test_local_value_selection_costs_quick_select_cycles() -> None:
    from simulator.units import quick_select_mean

    op = attention(256, 1, heads=8, values=(64,) * 8, local_values=64)
    result = cost(op)
    assert result.busy_cycles["topk_value"] == 8 * round(quick_select_mean(256, 64, 16))
    assert cost(attention(256, 1, heads=8)).busy_cycles["topk_value"] == 0
    faster = cost(op, topk__parallelism=32)
    assert faster.busy_cycles["topk_value"] < result.busy_cycles["topk_value"]


def test_token_and_head_selection_follow_the_last_head() -> None:
    plain = cost(attention(256))
    selected = cost(attention(256, token_select=(256, 128), head_select=(4, 3)))
    barrier = selected.busy_cycles["topk"]
    assert barrier > 0
    # The last writes of outputs may hide a part of it.
    assert plain.cycles < selected.cycles <= plain.cycles + barrier


@pytest.mark.parametrize(("head_dim", "share"), [(32, 0.5), (64, 1.0), (80, 80 / 128), (128, 1.0)])
def test_lanes_beyond_the_head_size_stand_idle(head_dim: int, share: float) -> None:
    op = attention(256, heads=8, head_dim=head_dim)
    assert op.operations / cost(op).cycles == pytest.approx(2048 * share, rel=0.03)


def test_grouped_heads_share_k_and_v() -> None:
    apart, shared = attention(128, heads=8), attention(128, heads=8, kv_heads=2)
    assert 4 * useful(cost(shared))["key_high"] == useful(cost(apart))["key_high"]
    assert cost(shared).busy_cycles["qk"] == cost(apart).busy_cycles["qk"]


def test_positions_matter_where_rows_keep_their_places() -> None:
    machine = design()
    op = attention(64, 1, heads=2, context=1024, key_msb_bits=4, key_lsb_bits=0)
    near = machine.cost(op, np.arange(64), 0)
    spread = machine.cost(op, np.arange(0, 1024, 16), 0)
    assert near.traffic["key_high"].useful_bytes == spread.traffic["key_high"].useful_bytes
    assert near.cycles < spread.cycles  # every 512 bytes is one channel of sixteen
    summarise = attention(64, heads=2, context=1024)
    assert machine.cost(summarise, np.arange(64), 0) is machine.cost(summarise, np.arange(0, 1024, 16), 0)


def test_odd_rows_fetch_more_than_is_useful() -> None:
    result = cost(attention(50, 1, heads=2, context=1024, head_dim=80, key_msb_bits=6))
    traffic = result.traffic["key_high"]
    assert traffic.bursts * 32 > 1.2 * traffic.useful_bytes  # 60-byte rows


@pytest.mark.parametrize("arch", ["spatten", "spatten-eighth", "systolic"])
def test_invariants_on_random_ops(arch: str, seed: int) -> None:
    rng = random.Random(seed)
    machine = design(arch)
    for _ in range(25):
        op = random_op(rng)
        if not machine.prunes:
            op = op.dense(len(op.heads), op.kv_heads)
        result = machine.cost(op, None, rng.randrange(10_000))
        assert result.cycles > 0
        assert all(0 <= busy <= result.cycles for busy in result.busy_cycles.values()), result.busy_cycles
        for traffic in result.traffic.values():
            assert traffic.useful_bytes <= 32 * traffic.bursts
        everything = sum(result.traffic.values(), start=Traffic())
        assert everything.activations + everything.row_hits >= everything.bursts
        assert result.dram_open_cycles <= machine.memory_spec.units * result.cycles
        fetched = 32 * sum(traffic.bursts for traffic in result.traffic.values())
        assert fetched <= result.cycles * machine.memory.peak_bytes_per_cycle
        energies = machine.energy(result)
        assert all(energy.pj >= 0 and energy.low_pj <= energy.pj <= energy.high_pj for energy in energies.values())


def test_two_runs_are_equal(seed: int) -> None:
    rng = random.Random(seed)
    ops = [random_op(rng) for _ in range(10)]
    first, second = design(), design()
    assert [first.cost(op, None, 5000) for op in ops] == [second.cost(op, None, 5000) for op in ops]


def test_another_seed_draws_other_positions() -> None:
    op = attention(100, 1, heads=1, context=1024)
    drawn = [make("spatten", seed=number)[0].chosen(100, 1024) for number in (1, 2)]
    assert not np.array_equal(*drawn)
    first, again = (make("spatten", seed=1)[0].cost(op, None, 0) for _ in range(2))
    assert first == again


def test_more_tokens_are_never_cheaper() -> None:
    machine = design()
    for queries in (1, None):
        ops = [attention(n, queries, heads=4) for n in range(8, 400, 40)]
        results = [machine.cost(op, None, 0) for op in ops]
        for less, more in pairwise(results):
            # A few rows of one query are all latency: where they lie decides, and docs/simulator.md says so.
            assert queries == 1 or less.cycles < more.cycles
            assert sum(useful(less).values()) < sum(useful(more).values())
            less_pj, more_pj = (sum(e.pj for e in machine.on_chip_energy(c).values()) for c in (less, more))
            assert less_pj < more_pj


def test_more_heads_values_and_low_bits_are_never_cheaper() -> None:
    machine = design()

    def total(op: AttentionOp) -> tuple[int, int, float]:
        result = machine.cost(op, None, 0)
        pj = sum(energy.pj for name, energy in machine.on_chip_energy(result).items() if name != "sram.leakage")
        return result.cycles, sum(useful(result).values()), pj

    heads = attention(128, heads=3), attention(128, heads=4)
    low_bits = attention(128, lsb_queries=(3,) * 4), attention(128, lsb_queries=(30,) * 4)
    values = [attention(128, 1, values=(n,) * 4, local_values=n) for n in (60, 90)]
    for smaller, larger in (heads, low_bits, values):
        less, more = total(smaller), total(larger)
        # A selection closer to the median takes more rounds, so that fewer values may take longer.
        assert less[1:] <= more[1:]
        assert (smaller, larger) == tuple(values) or less[0] < more[0]


def test_equal_ops_are_simulated_once_and_layers_do_not_matter() -> None:
    machine = design()
    op = attention(128)
    other = dataclasses.replace(op, layer=3, sequence=7, heads=(1, 4, 6, 9), kind={"tokens": "measured"})
    assert machine.cost(op, None, 0) is machine.cost(other, None, 0)
    assert machine.cost(attention(129), None, 0) is not machine.cost(op, None, 0)


@pytest.mark.parametrize("empty", [{"keys": 0, "queries": 0}, {"keys": 5, "queries": 0}, {"keys": 5, "heads": 0}])
def test_empty_ops_cost_nothing(empty: dict[str, int]) -> None:
    op = attention(**empty)
    for arch in ("spatten", "systolic"):
        result = cost(op, arch)
        assert result.cycles == 0
        assert not any(traffic.bursts for traffic in result.traffic.values())


def test_a_context_that_does_not_fit_names_the_size_that_would() -> None:
    op = attention(1500, 1)
    with pytest.raises(UnsupportedError, match="1500 keys of size 64; the K and V SRAM hold 1024") as caught:
        cost(op)
    size = int(re.search(r"sram.bytes=(\d+)", caught.value.hint)[1])
    assert cost(op, sram__bytes=size).cycles > 0
    with pytest.raises(UnsupportedError):
        cost(op, sram__bytes=size - 1536)
    assert cost(attention(1024, 1)).cycles > 0


def test_the_buffer_of_the_systolic_array_has_a_limit_as_well() -> None:
    op = attention(2048, heads=1)
    with pytest.raises(UnsupportedError, match="do not fit") as caught:
        cost(op, "systolic")
    size = int(re.search(r"sram.bytes=(\d+)", caught.value.hint)[1])
    assert cost(op, "systolic", sram__bytes=size).cycles > 0


def test_the_eighth_is_eight_times_slower_where_compute_binds() -> None:
    op = attention(256, heads=8)
    assert cost(op, "spatten-eighth").cycles / cost(op).cycles == pytest.approx(8, rel=0.02)


def test_what_each_design_runs() -> None:
    linear = LinearOp(0, "x", 0, "summarise", 0, 8, 64, 64)
    assert [design(arch).runs(linear) for arch in ("spatten", "spatten-eighth", "systolic")] == [False, False, True]
    assert all(design(arch).runs(attention()) for arch in design_names())


@pytest.mark.parametrize("clock", [0.3, 0.7, 1.9])
def test_the_memory_keeps_its_own_clock(clock: float) -> None:
    op = attention(1024, 1, heads=8)
    machine = make("spatten", {"clock_ghz": clock})[0]
    result = machine.cost(op, None, 0)
    fetched = 32 * sum(traffic.bursts for traffic in result.traffic.values())
    assert fetched / machine.seconds(result.cycles) <= 512e9
    if clock > 1:  # bound by the memory, whose time does not change
        assert machine.seconds(result.cycles) == pytest.approx(cost(op).cycles * 1e-9, rel=0.1)


@pytest.mark.parametrize("case", range(12))
def test_any_sizes_of_queues_and_buffers_finish_all_work(case: int, seed: int) -> None:
    rng = random.Random(seed * 100 + case)
    changes = {
        "pipeline.undecided": rng.choice([1, 2, 8]),
        "pipeline.decided": rng.choice([1, 3, 8]),
        "softmax.fifo_depth": rng.choice([1, 16, 128]),
        "softmax.parallelism": rng.choice([1, 4, 8]),
        "sram.outstanding": rng.choice([1, 2, 16]),
        "sram.buffers": rng.choice([1, 2]),
        "sram.bytes": rng.choice([196_608, 98_304]),
        "fetcher.lanes": rng.choice([1, 4, 32]),
        "fetcher.fifo_depth": rng.choice([2, 64]),
        "topk.parallelism": rng.choice([1, 16]),
        "dram.channels": rng.choice([1, 2, 16]),
        "array.multipliers": rng.choice([64, 512]),
        "layout.summarise": rng.choice(["compact", "original"]),
    }
    machine = make("spatten", changes)[0]
    for _ in range(4):
        op = random_op(rng)
        if op.head_dim > 64 and changes["array.multipliers"] == 64:
            op = dataclasses.replace(op, head_dim=64)
        result = machine.cost(op, None, rng.randrange(20_000))
        array, queries = machine.machine.array, op.queries * len(op.heads)
        assert result.busy_cycles["pv"] == queries * array.cycles(op.local_values, op.head_dim)
        assert result.busy_cycles["qk"] == (queries + sum(op.lsb_queries)) * array.cycles(op.keys, op.head_dim)
        assert useful(result)["output"] == queries * -(-op.head_dim * 12 // 8)
