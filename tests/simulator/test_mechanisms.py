"""Mechanisms of SpAtten one by one: fills and ports of the SRAM, odd head sizes, contexts that stream by, batches."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from attention_ops import attention, cost, design, random_op, useful

import simulator as sim
from simulator.errors import ConfigError, UnsupportedError
from simulator.workload.reader import read_workload
from simulator.workload.request import ReadRequest

IDEAL = {"dram__standard": "ideal", "dram__ideal_latency": 10, "dram__ideal_bytes_per_cycle": 512}


# The SRAM.


@pytest.mark.parametrize(("keys", "lines"), [(1, 2), (8, 2), (16, 2), (17, 4), (100, 14), (1024, 128)])
def test_fills_are_rounded_to_what_a_write_takes(keys: int, lines: int) -> None:
    assert design().machine.lines(keys, 64) == lines
    assert design(sram__fill_lines=1).machine.lines(keys, 64) == -(-keys // 8)


def test_rounding_decides_how_many_heads_fit() -> None:
    op = attention(8, 1, heads=12)  # a line a head, two when rounded
    room = {"sram__bytes": 4 * 768, "sram__buffers": 1, **IDEAL}
    exact, rounded = (cost(op, sram__fill_lines=lines, **room) for lines in (1, 2))
    assert exact.cycles < rounded.cycles
    assert exact.traffic == rounded.traffic


def test_a_query_that_follows_the_fill_shares_the_port() -> None:
    """One head: Q x K and prob x V each wait for the writes of their own fill, 1024 elements a cycle."""
    op = attention(512, 1, heads=1)
    alone, shared = (cost(op, sram__shared_port=port, **IDEAL) for port in (False, True))
    # K and V take as long to arrive as 64 and 96 cycles, the array 64: what is lost of the head start comes on top.
    assert shared.units["qk"].starved - alone.units["qk"].starved == 512 // 16
    assert shared.cycles > alone.cycles
    slow = IDEAL | {"dram__ideal_bytes_per_cycle": 64}
    slow_alone, slow_shared = (cost(op, sram__shared_port=port, **slow) for port in (False, True))
    assert slow_alone.cycles == slow_shared.cycles  # rows come so slowly that the writes fit in between


def test_fills_of_the_other_part_cost_nothing() -> None:
    op = attention(256, heads=6)  # every head but the first is there before it is needed
    alone, shared = (cost(op, sram__shared_port=port) for port in (False, True))
    assert 0 <= shared.cycles - alone.cycles <= 2 * (256 // 16)


# Head sizes.


@pytest.mark.parametrize(("head_dim", "per_cycle"), [(32, 8), (64, 8), (80, 4), (128, 4)])
def test_head_sizes_idle_lanes_and_partial_bursts(head_dim: int, per_cycle: int) -> None:
    op = attention(96, heads=2, head_dim=head_dim, key_msb_bits=6, value_bits=8, key_lsb_bits=0)
    result = cost(op)
    assert result.busy_cycles["qk"] == 2 * 96 * (96 // per_cycle)
    assert result.operations["qk"] == 2 * 2 * 96 * 96 * head_dim
    lanes_used = result.operations["qk"] / 2 / (512 * result.busy_cycles["qk"])
    assert lanes_used == pytest.approx(min(head_dim * per_cycle / 512, 1))
    assert useful(result)["key_high"] == 2 * 96 * -(-head_dim * 6 // 8)


@pytest.mark.parametrize("head_dim", [32, 64, 80, 128])
def test_rows_apart_fetch_bursts_that_they_need_only_in_part(head_dim: int) -> None:
    op = attention(50, 1, heads=2, context=200, head_dim=head_dim, key_msb_bits=6, key_lsb_bits=0)
    key = design().cost(op, np.arange(0, 200, 4), 0).traffic["key_high"]
    row = -(-head_dim * 6 // 8)
    touched = sum((at + row - 1) // 32 - at // 32 + 1 for at in range(0, 200 * row, 4 * row))
    assert (key.useful_bytes, key.bursts) == (2 * 50 * row, 2 * touched)
    assert 32 * key.bursts > key.useful_bytes or row % 32 == 0


def test_head_size_32_of_minilm_takes_the_time_of_64() -> None:
    half, whole = (cost(attention(256, heads=4, head_dim=dim)) for dim in (32, 64))
    assert half.busy_cycles["qk"] == whole.busy_cycles["qk"]
    assert 2 * half.operations["qk"] == whole.operations["qk"]


# The decision.


def test_softmax_output_and_prob_x_v_stand_still_while_a_query_is_computed_again() -> None:
    """The last of 8 queries needs the low bits: what comes behind waits for them, Q x K and the softmax."""
    base, again = (cost(attention(64, 8, heads=1, lsb_queries=(low,)), **IDEAL) for low in (0, 1))
    array, latencies = 64 // 8, 8 + 87
    fetch = 1 + 10 + 64 * 32 // 512  # asked for in the next cycle
    waited = fetch + array + latencies + 64 // 8
    assert again.units["pv"].starved - base.units["pv"].starved == pytest.approx(waited, abs=8)
    assert again.units["pv"].busy == base.units["pv"].busy
    assert again.cycles - base.cycles == pytest.approx(waited, abs=8)
    behind = cost(attention(64, 8, heads=4, lsb_queries=(1, 0, 0, 0)), **IDEAL)
    assert behind.units["pv"].starved > base.units["pv"].starved  # heads behind it wait in order


def test_new_queries_need_an_entry_of_the_request_fifo() -> None:
    """Each query here takes an entry: with one of them Q x K waits for the decision on the query before."""
    op = attention(1024, 1, heads=8, lsb_queries=(1,) * 8)
    cycles = [cost(op, pipeline__undecided=entries).cycles for entries in (1, 2, 8)]
    assert cycles[0] > cycles[1] >= cycles[2]
    assert cycles[0] > 8 * (2 * 128 + 2 * 128 + 2 * 87)  # two passes, one head at a time
    assert cost(op, pipeline__undecided=1).units["qk"].blocked > 0


# Contexts larger than the SRAM.


def stream(**changes: Any) -> dict[str, Any]:
    return {"kv_tiling": "stream", **changes}


def test_the_error_of_a_large_context_names_streaming() -> None:
    with pytest.raises(UnsupportedError) as caught:
        cost(attention(2000, 1))
    assert "kv_tiling=stream" in caught.value.hint
    with pytest.raises(ConfigError, match="kv_tiling"):
        design(kv_tiling="tiles")


@pytest.mark.parametrize("arch", ["spatten", "spatten-rtl", "systolic"])
def test_the_size_that_the_error_names_is_enough_for_the_whole_run(arch: str) -> None:
    """A context grows while tokens are generated: what the first of them needs is too little for the last."""
    grown = read_workload("gpt2-small", ReadRequest(None, "none", 1030, 1, 12, None, None, False)).only("generate")
    with pytest.raises(UnsupportedError) as caught:
        sim.run(grown, arch, fidelity="analytical", set={"sram.bytes": 65536})
    size = int(str(caught.value.expected).split()[0])
    assert str(size) in caught.value.hint
    assert sim.run(grown, arch, fidelity="analytical", set={"sram.bytes": size}).energy_pj > 0
    with pytest.raises(UnsupportedError):
        sim.run(grown, arch, fidelity="analytical", set={"sram.bytes": size - 1})


def test_what_fits_is_not_touched_by_streaming() -> None:
    op = attention(1024, 4, heads=2)
    assert cost(op) == cost(op, **stream())


@pytest.mark.parametrize(("queries", "held"), [(1, 32768), (10, 32768), (40, 6000), (40, 100)])
def test_k_and_v_are_read_once_for_each_block_that_fits(queries: int, held: int) -> None:
    keys = 1500
    result = cost(attention(keys, queries, heads=2, context=1500), **stream(pipeline__held_scores=held))
    blocks = -(-queries // max(1, held // keys))
    assert useful(result)["key_high"] == 2 * blocks * keys * 64
    assert useful(result)["value"] == 2 * blocks * keys * 96
    assert useful(result)["query"] == useful(result)["output"] == 2 * queries * 96
    assert result.busy_cycles["qk"] == pytest.approx(2 * queries * -(-keys // 8), rel=1e-3)
    assert all(unit.total == result.cycles for unit in result.units.values())


def test_low_bits_of_a_streamed_block_read_the_high_ones_again() -> None:
    op = attention(1500, 21, heads=1, context=1500, lsb_queries=(1,))
    plain, low = (useful(cost(dataclasses.replace(op, lsb_queries=(count,)), **stream())) for count in (0, 1))
    assert low["key_high"] - plain["key_high"] == 1500 * 64
    assert low["key_low"] == 1500 * 32


def test_streaming_extrapolates_what_it_would_have_simulated() -> None:
    """13 blocks are extrapolated from 12; 100 and 200 lie on one line through them."""
    changes = stream(pipeline__held_scores=1500)
    times = {n: cost(attention(1500, n, heads=1, context=1500), **changes).cycles for n in (6, 12, 13, 112, 212)}
    step = (times[12] - times[6]) / 6
    for more in (13, 112, 212):
        assert times[more] == pytest.approx(times[12] + (more - 12) * step, abs=2)


def test_streaming_is_bound_by_memory_where_blocks_are_small() -> None:
    op = attention(3000, 60, heads=1, context=3000)
    small, large = (cost(op, **stream(pipeline__held_scores=scores)) for scores in (3000, 60_000))
    assert small.traffic["key_high"].useful_bytes == 20 * large.traffic["key_high"].useful_bytes
    assert small.cycles > 1.2 * large.cycles
    assert small.dram_active_cycles > 0.9 * small.cycles


# Batches and groups.


def test_sequences_of_a_batch_have_their_own_k_and_v() -> None:
    one, three = (sim.run(read_workload("bert-base", ReadRequest(seq_len=40, batch=n)), "spatten") for n in (1, 3))
    assert three.scopes["attention"].dram_useful_bytes == 3 * one.scopes["attention"].dram_useful_bytes
    assert three.streams["key_high"].useful_bytes == 3 * one.streams["key_high"].useful_bytes


def test_grouped_heads_read_k_and_v_once_when_generating_too() -> None:
    apart, shared = (cost(attention(300, 1, heads=8, kv_heads=kv_heads)) for kv_heads in (8, 2))
    assert useful(apart)["value"] == 4 * useful(shared)["value"]
    assert useful(apart)["new_key_value"] == 4 * useful(shared)["new_key_value"]
    assert useful(apart)["query"] == useful(shared)["query"]
    assert shared.cycles < apart.cycles


# The released RTL: each difference is a setting whose default is the paper's.


RTL = {
    "topk.output_hidden": False,
    "fetcher.in_order": True,
    "layout.align_bytes": 32,
    "layout.round_rows": 8,
    "layout.widest_bits": 8,
    "layout.fused_bits": 6,
}


def test_the_preset_is_the_paper_with_these_settings() -> None:
    paper, rtl = (dict(design(arch).settings) for arch in ("spatten", "spatten-rtl"))
    changed = design("spatten", **{name.replace(".", "__"): value for name, value in RTL.items()})
    assert {name for name in paper if paper[name] != rtl[name]} == {"name", "description", "topk", "fetcher", "layout"}
    op = attention(100, 1, heads=4, context=200, local_values=30, values=(30,) * 4)
    assert changed.cost(op, None, 0) == design("spatten-rtl").cost(op, None, 0)


def test_rounded_counts_read_and_multiply_more_rows() -> None:
    op = attention(51, 1, heads=2, context=90, values=(10, 17), local_values=10)
    rounded = useful(cost(op, layout__round_rows=8))
    assert rounded["key_high"] == 2 * 56 * 64
    assert rounded["value"] == (16 + 24) * 96
    assert cost(attention(56, 1, heads=2), layout__round_rows=8) == cost(attention(56, 1, heads=2))
    positions = np.sort(np.random.default_rng(0).choice(90, 51, replace=False))
    assert useful(design(layout__round_rows=8).cost(op, positions, 0))["key_high"] == rounded["key_high"]


def test_wide_keys_are_read_as_8_and_4_bits_by_every_query() -> None:
    op = attention(64, 1, heads=3, key_msb_bits=12, key_lsb_bits=0, value_bits=12)
    paper, rtl = cost(op), cost(op, layout__widest_bits=8)
    assert useful(paper)["key_high"] == 3 * 64 * 96
    assert (useful(rtl)["key_high"], useful(rtl)["key_low"]) == (3 * 64 * 64, 3 * 64 * 32)
    assert useful(rtl)["value"] == 3 * 64 * 64
    assert rtl.busy_cycles["qk"] == 2 * paper.busy_cycles["qk"]
    narrow = attention(64, 1, heads=3, key_msb_bits=8, key_lsb_bits=4, value_bits=8, lsb_queries=(0, 1, 0))
    assert cost(narrow) == cost(narrow, layout__widest_bits=8)


def test_rows_at_whole_transactions() -> None:
    op = attention(50, 1, heads=2, context=200, key_msb_bits=6, key_lsb_bits=0)
    rows = np.arange(0, 200, 4)
    packed, aligned = (design(layout__align_bytes=align).cost(op, rows, 0) for align in (1, 32))
    assert aligned.traffic["key_high"].bursts == 2 * 50 * 2  # 48 bytes
    assert packed.traffic["key_high"].useful_bytes == aligned.traffic["key_high"].useful_bytes


@pytest.mark.parametrize(("heads", "reads"), [(4, 2), (5, 3)])
def test_6_bit_rows_of_two_heads_are_one_of_96_bytes(heads: int, reads: int) -> None:
    op = attention(50, 1, heads=heads, context=200, key_msb_bits=6, key_lsb_bits=0)
    result = design(layout__fused_bits=6).cost(op, np.arange(0, 200, 4), 0)
    assert result.traffic["key_high"].useful_bytes == reads * 50 * 96
    assert result.traffic["key_high"].bursts == reads * 50 * 3
    assert result.busy_cycles["qk"] == heads * 7
    assert useful(design(layout__fused_bits=4).cost(op, None, 0))["key_high"] == heads * 50 * 48


def test_selections_of_the_second_of_two_fused_heads_may_be_free() -> None:
    op = attention(256, 1, heads=4, values=(64,) * 4, local_values=64, key_msb_bits=6, key_lsb_bits=0)
    fused = {"layout__fused_bits": 6}
    all_heads = cost(op, **fused).busy_cycles["topk_value"]
    assert cost(op, **fused, layout__fused_select_free=True).busy_cycles["topk_value"] == all_heads // 2 + 2
    assert cost(op, layout__fused_select_free=True) == cost(op)


def test_the_output_pass_of_a_selection_keeps_the_engine() -> None:
    op = attention(256, 1, heads=8, values=(64,) * 8, local_values=64)
    hidden, shown = (cost(op, topk__output_hidden=hidden).busy_cycles["topk_value"] for hidden in (True, False))
    assert shown - hidden == 8 * (256 // 16 + 5)


def test_requests_in_order_are_never_faster() -> None:
    op = attention(200, 1, heads=12, context=1000, values=(60,) * 12, local_values=60, lsb_queries=(1, 0) * 6)
    free, ordered = (cost(op, fetcher__in_order=order) for order in (False, True))
    assert free.traffic.keys() == ordered.traffic.keys()
    assert ordered.cycles >= free.cycles


@pytest.mark.parametrize("fidelity", ["event", "analytical"])
def test_the_rtl_preset_runs_ops_of_all_kinds(fidelity: str, seed: int) -> None:
    rng = random.Random(seed)
    machine = design("spatten-rtl")
    machine.fidelity = fidelity
    for _ in range(20):
        op = random_op(rng)
        assert machine.cost(op, None, 0).cycles > 0
