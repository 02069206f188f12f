"""The closed formula of every unit against a second way to get the same number."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import ConfigError
from simulator.tech import constant, sram_macro, table_names
from simulator.units import (
    Arithmetic,
    ArithmeticSettings,
    Fetcher,
    FetcherSettings,
    MultiplierArray,
    Softmax,
    SoftmaxSettings,
    Sram,
    SramSettings,
    TopK,
    TopKSettings,
    ZeroEliminator,
    quick_select_mean,
)

SRAM = SramSettings(bytes=196608, buffers=2, outstanding=16, macro_bytes=4096, port_bits=128, table="cacti7_45nm")


@cache
def expected_rounds(n: int, k: int, parallelism: int) -> Fraction:
    """The recursion of quick-select itself: every pivot with probability 1 / n."""
    total = Fraction(-(-n // parallelism) + 3)
    for larger in range(n):  # values above the pivot
        if larger == k - 1:
            continue
        rest = (larger, k) if larger >= k else (n - larger - 1, k - larger - 1)
        total += expected_rounds(*rest, parallelism) / n
    return total


@pytest.mark.parametrize("parallelism", [1, 3, 16])
def test_quick_select_equals_the_exact_recursion(parallelism: int) -> None:
    for n in range(1, 15):
        for k in range(1, n + 1):
            exact = expected_rounds(n, k, parallelism)
            assert quick_select_mean(n, k, parallelism) == pytest.approx(float(exact), rel=1e-12)


def test_quick_select_equals_the_mean_of_many_runs(seed: int) -> None:
    rng = random.Random(seed)

    def once(n: int, k: int) -> int:
        cycles = 0
        while True:
            cycles += -(-n // 16) + 3
            larger = rng.randrange(n)
            if larger == k - 1:
                return cycles
            n, k = (larger, k) if larger >= k else (n - larger - 1, k - larger - 1)

    runs = [once(614, 184) for _ in range(4000)]
    mean = sum(runs) / len(runs)
    error = (sum((run - mean) ** 2 for run in runs) / len(runs) ** 2) ** 0.5
    assert abs(mean - quick_select_mean(614, 184, 16)) < 5 * error


def test_topk_bypass_and_output_pass() -> None:
    hidden, shown = (TopK(TopKSettings(parallelism=16, cycles_per_round=3, output_hidden=h)) for h in (True, False))
    assert hidden.cycles(64, 64) == hidden.cycles(64, 0) == hidden.cycles(0, 0) == 0
    assert shown.cycles(64, 32) == hidden.cycles(64, 32) + 64 // 16 + ZeroEliminator(16).latency
    assert hidden.comparisons(64, 64) == 0 < hidden.comparisons(64, 32)


@given(st.integers(0, 4096), st.integers(1, 256))
def test_multiplier_array_takes_all_rows_and_no_more_than_fit(rows: int, head_dim: int) -> None:
    array = MultiplierArray(512, 64)
    per_cycle, cycles = array.rows_per_cycle(head_dim), array.cycles(rows, head_dim)
    assert per_cycle * head_dim <= 512
    assert per_cycle <= 8  # the tree has eight outputs
    assert (cycles - 1) * per_cycle < rows <= cycles * per_cycle or rows == cycles == 0


@pytest.mark.parametrize(("head_dim", "per_cycle"), [(16, 8), (32, 8), (64, 8), (80, 4), (128, 4), (512, 1)])
def test_idle_lanes_of_other_head_sizes(head_dim: int, per_cycle: int) -> None:
    assert MultiplierArray(512).rows_per_cycle(head_dim) == per_cycle


def test_score_latency_of_the_published_array() -> None:
    assert MultiplierArray(512).score_latency(64) == 8
    assert MultiplierArray(64).rows_per_cycle(64) == 1


def test_softmax() -> None:
    stages = {"dequantise": 7, "exponent": 21, "accumulate": 23, "divide": 29, "quantise": 7}
    unit = Softmax(SoftmaxSettings(parallelism=8, fifo_depth=128, **stages))
    assert unit.latency == 87
    assert [unit.cycles(n) for n in (0, 1, 8, 9, 1024)] == [0, 1, 1, 2, 128]
    assert [unit.queries_in_fifo(n) for n in (0, 8, 384, 1024, 5000)] == [128, 128, 2, 1, 1]


def test_sram_of_the_paper_holds_1024_keys_twice() -> None:
    sram = Sram(SRAM, 512 * 12)
    assert sram.lines == 256
    assert sram.lines_per_buffer * MultiplierArray(512).rows_per_cycle(64) == 1024
    assert sram.macros * SRAM.port_bits == 512 * 12  # a line is read in one cycle
    assert sram.read_pj(512 * 12) == pytest.approx(48 * sram.macro.read_pj)


@pytest.mark.parametrize("width", [1, 2, 8, 16, 64])
def test_zero_eliminator_shifts_every_item_to_its_place(width: int, seed: int) -> None:
    rng = random.Random(seed)
    items = [rng.choice([0, rng.randint(1, 9)]) for _ in range(width)]
    zeros = [items[:i].count(0) for i in range(width)]  # one cycle: the prefix sum
    word, layers = list(zip(items, zeros, strict=True)), (width - 1).bit_length()
    for layer in range(layers):
        moved = [(0, 0)] * width
        for position, (item, count) in enumerate(word):
            if item:
                target = position - (1 << layer if count >> layer & 1 else 0)
                assert moved[target] == (0, 0)
                moved[target] = (item, count)
        word = moved
    kept = [item for item in items if item]
    assert [item for item, _ in word] == kept + [0] * (width - len(kept))
    assert ZeroEliminator(width).latency == 1 + layers


def test_fetcher_space_and_bound() -> None:
    fetcher = Fetcher(FetcherSettings(lanes=32, fifo_depth=64, word_bytes=16))
    assert fetcher.run_ahead_bursts(32) == 1024
    assert Fetcher.least_cycles(33, 16) == 3


def test_arithmetic_scales_with_width() -> None:
    names = {n: f"horowitz2014.{n}" for n in ("fp32_add", "fp32_multiply")}
    settings = ArithmeticSettings(multiply_8bit="horowitz2014.int8_multiply", add_8bit="horowitz2014.int8_add", **names)
    arithmetic = Arithmetic(settings)
    assert arithmetic.multiply_add_pj(8) == pytest.approx(0.2 + 0.06)
    assert arithmetic.multiply_add_pj(12) == pytest.approx(0.2 * 2.25 + 0.03 * 3)
    # The square law against the published 32-bit multiplier: 3.2 against 3.1 pJ.
    wide = arithmetic.multiply_add_pj(32) - arithmetic.add_pj(64)
    assert wide == pytest.approx(constant("horowitz2014.int32_multiply").value, rel=0.05)


def test_every_table_names_its_source() -> None:
    for name in table_names():
        with pytest.raises(ConfigError, match="unknown constant"):
            constant(f"{name}.nothing")
    assert "MICRO 2017" in constant("hbm2_oconnor2017.activation").source


def test_an_sram_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no SRAM macro.*4096 B x 128 bit"):
        sram_macro("cacti7_45nm", 5000, 128)
    with pytest.raises(ConfigError, match="did you mean 'cacti7_45nm'"):
        sram_macro("cacti7", 4096, 128)
